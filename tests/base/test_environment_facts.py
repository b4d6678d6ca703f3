"""What the machine says, and what it does not say."""

from __future__ import annotations

import mmap
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apr.base import environment

MB = 1 << 20


@pytest.fixture
def control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of /sys/fs/cgroup."""
    tables = tuple(
        (tmp_path / folder.relative_to("/sys/fs/cgroup"), limit, used)
        for folder, limit, used in environment._CONTROL_GROUPS
    )
    monkeypatch.setattr(environment, "_CONTROL_GROUPS", tables)
    return tmp_path


def write(folder: Path, limit: object, used: object, stat: str | None = None, version: int = 2) -> None:
    names = ("memory.max", "memory.current")
    if version == 1:
        folder, names = folder / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        folder.mkdir()
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    if stat is not None:
        (folder / "memory.stat").write_text(stat)


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_groups_limit_counts(control_groups: Path, version: int) -> None:
    write(control_groups, 100 * MB, 40 * MB, version=version)
    assert environment.available_memory_bytes() == 60 * MB


@pytest.mark.parametrize("version", [1, 2])
def test_the_cache_of_files_is_not_lost_memory(control_groups: Path, version: int) -> None:
    stat = f"anon {10 * MB}\nactive_file {5 * MB}\ninactive_file {20 * MB}\nfile_mapped 7\n"
    write(control_groups, 100 * MB, 40 * MB, stat, version)
    assert environment.available_memory_bytes() == 85 * MB


def test_more_used_than_allowed_leaves_nothing(control_groups: Path) -> None:
    write(control_groups, 10 * MB, 40 * MB)
    assert environment.available_memory_bytes() == 0


@pytest.mark.parametrize(("limit", "used"), [("max", 1), ("", 1), (MB, "?")])
def test_no_limit_leaves_what_the_kernel_says(control_groups: Path, limit: object, used: object) -> None:
    write(control_groups, limit, used)
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    assert environment.available_memory_bytes() == pytest.approx(free, rel=0.2)


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"APR_CACHE": "/a"}, "/a"),
        ({"APR_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/apr"),
        ({"HOME": "/c"}, "/c/.cache/apr"),
    ],
)
def test_the_cache_is_where_the_caller_says(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: str
) -> None:
    for name in ("APR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.cache_dir() == Path(wanted)


def test_versions_leave_out_what_is_not_installed() -> None:
    found = environment.versions("numpy", "no-such-distribution")
    assert set(found) == {"python", "platform", "numpy"}


def test_there_is_a_processor() -> None:
    assert environment.cpu_count() >= 1
    assert all(flag == flag.strip() and flag for flag in environment.cpu_flags())


def test_what_this_process_holds_grows_with_what_it_writes_to() -> None:
    before = environment.resident_bytes()
    with mmap.mmap(-1, 64 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.write(b"x" * len(block))
        after = environment.resident_bytes()
    assert before is not None
    assert after is not None
    assert after[0] - before[0] > 60 * MB
    assert abs(after[1] - before[1]) < 8 * MB


def test_the_free_disk_of_a_place_that_is_not_there_yet(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    for place in (tmp_path, tmp_path / "a" / "b"):
        assert environment.free_disk_bytes(place) == pytest.approx(free, rel=0.2)


def test_memory_that_was_freed_and_kept_comes_back() -> None:
    code = (
        "import torch\n"
        "from apr.base.environment import give_freed_memory_back, keep_freed_memory\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "keep_freed_memory()\n"
        "before = resident()\n"
        "block = torch.ones(100_000_000)\n"
        "del block\n"
        "kept = resident() - before\n"
        "give_freed_memory_back()\n"
        "print(kept, resident() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 300_000_000
    assert left < 50_000_000
