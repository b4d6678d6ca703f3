"""What the machine and the caller's environment say."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

_CONTROL_GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def cache_dir() -> Path:
    """The folder for downloads: `APR_CACHE`, else `XDG_CACHE_HOME/apr`, else `~/.cache/apr`."""
    if chosen := os.environ.get("APR_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "apr"


def available_memory_bytes() -> int | None:
    """Memory that can be allocated now without swapping, in bytes; None where the system does not say.

    The smaller of /proc/meminfo and the control group's limit: inside a container only the latter is true.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    limit = _control_group_bytes()
    known = [value for value in (free, limit) if value is not None]
    return min(known) if known else None


def resident_bytes() -> tuple[int, int] | None:
    """What this process holds in memory: (its own pages, pages of files); None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    held = {
        name: int(line.split()[1]) * 1024 for line in lines if (name := line.partition(":")[0])[:3] == "Rss"
    }
    return (held["RssAnon"], held["RssFile"]) if {"RssAnon", "RssFile"} <= held.keys() else None


def free_disk_bytes(path: Path) -> int | None:
    """What may be written where `path` is, or would be; None where the system does not say."""
    there = next((place for place in (path, *path.absolute().parents) if place.is_dir()), None)
    try:
        return shutil.disk_usage(there).free if there else None
    except OSError:
        return None


def _control_group_bytes() -> int | None:
    """What the control group, of either version, leaves; None where there is none or it sets no limit."""
    for folder, limit_name, used_name in _CONTROL_GROUPS:
        try:
            limit = int((folder / limit_name).read_text())
            used = int((folder / used_name).read_text())
        except (OSError, ValueError):  # another version, or the word `max`
            continue
        return max(0, limit - max(0, used - _file_cache_bytes(folder)))
    return None


def _file_cache_bytes(folder: Path) -> int:
    # Pages of files count as used, but the kernel gives them back: a checkpoint that was read is no loss.
    try:
        pairs = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
        return sum(int(size) for name, size in pairs if name in ("active_file", "inactive_file"))
    except (OSError, ValueError):
        return 0


def cpu_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(*packages: str) -> dict[str, str]:
    """Versions of the interpreter and of the named distributions; those not installed are left out."""
    found = {"python": platform.python_version(), "platform": sys.platform}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the processor as the kernel names them; empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(found.partition(":")[2].split())


def keep_freed_memory() -> bool:
    """Let the C library keep large blocks that are freed, for the next time; returns whether it could be asked.

    glibc gives every block above 32 MB back to the kernel and gets it anew, zeroed, page by page. A training step frees
    and takes the same gigabytes again and again: keeping them made a step of a 135M model a fifth faster (LOG.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, another system
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # the names in malloc.h
    asked = ((mmap_max, 0), (trim_threshold, -1), (top_pad, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in asked)


def give_freed_memory_back() -> None:
    """Return to the system what was freed and kept, so that it counts as available again."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # another C library, another system: it keeps nothing
        return
