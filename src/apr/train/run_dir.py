"""The run directory: who holds it, what lies where."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from apr.base.errors import CannotWrite
from apr.base.files import fsync, sha256_bytes, sha256_file, write_bytes, write_json
from apr.train.errors import MetricsChanged, RunDirInUse, RunDirNotEmpty

_LOCK = ".lock"


class RunDir:
    """An exclusive hold on a run directory; released when the block ends or the process dies.

    The lock is the kernel's, on an open file, so that a killed run leaves nothing to clean up.
    """

    writes = True

    def __init__(self, path: Path, *, resumes: bool = False) -> None:
        """Name the directory.

        Args:
            path: new or empty, unless a run in it is to be resumed.
            resumes: whether it is.
        """
        self.path, self._resumes = path, resumes
        self._made = False

    def __enter__(self) -> Self:
        self._open()
        self._lock()
        # The one who held it may have removed the name between the two: then another could lock a new file.
        while not self._is_named():
            os.close(self._handle)
            self._open()
            self._lock()
        try:
            if not self._resumes:
                self._require_empty()
            self._sign()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _open(self) -> None:
        try:
            self._made = self._made or not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            self._unmake()
            raise CannotWrite(path=str(self.path), reason=error.strerror or str(error)) from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._handle)
            raise RunDirInUse(path=str(self.path), holder=holder) from error

    def _is_named(self) -> bool:
        """Whether the file that is locked is the one that others find."""
        try:
            return os.path.samestat(os.fstat(self._handle), (self.path / _LOCK).stat())
        except OSError:
            return False

    def _release(self) -> None:
        with suppress(OSError):  # where nothing can be written any more, the error that says so must be heard
            (self.path / _LOCK).unlink(missing_ok=True)  # ours to remove: nobody else holds it
        self._unmake()
        os.close(self._handle)

    def _unmake(self) -> None:
        """Remove the directory if nothing was written: it was not there before either."""
        if self._made and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def _sign(self) -> None:
        try:
            os.ftruncate(self._handle, 0)
            os.write(self._handle, str(os.getpid()).encode())
        except OSError as error:  # the first bytes of a run: a full disk shows here
            raise CannotWrite(path=str(self.path), reason=error.strerror or str(error)) from error

    def _require_empty(self) -> None:
        found = sorted(item.name for item in self.path.iterdir() if item.name != _LOCK)
        if found:
            raise RunDirNotEmpty(path=str(self.path), found=", ".join(found[:3]))

    @property
    def checkpoints(self) -> Path:
        """Where `epoch-NNN.apr` lie."""
        return self.path / "ckpt"

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON document whole or not at all."""
        write_json(self.path / name, value)

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        self._append("metrics.jsonl", json.dumps(line, allow_nan=False))

    def metrics_mark(self) -> tuple[int, str]:
        """Put metrics.jsonl on the disk; returns its length in bytes and its SHA-256."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return 0, sha256_bytes(b"")
        fsync(path)
        return path.stat().st_size, sha256_file(path)

    def rewind_metrics(self, num_bytes: int, sha256: str, step: int) -> None:
        """Cut metrics.jsonl back to what it was when a state was saved.

        Raises:
            MetricsChanged: it does not begin with those bytes.
        """
        path = self.path / "metrics.jsonl"
        content = path.read_bytes()[:num_bytes] if path.is_file() else b""
        if len(content) != num_bytes or sha256_bytes(content) != sha256:
            raise MetricsChanged(path=str(path), num_bytes=num_bytes, step=step)
        if path.is_file():
            write_bytes(path, content)

    def log(self, text: str) -> None:
        """Append one line to log.txt."""
        self._append("log.txt", text)

    def _append(self, name: str, line: str) -> None:
        path = self.path / name
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise CannotWrite(path=str(path), reason=error.strerror or str(error)) from error


class Onlooker(RunDir):
    """The run directory as every process but the first has it: what it holds can be read, and nothing is written."""

    writes = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write nothing."""

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Write nothing."""

    def rewind_metrics(self, num_bytes: int, sha256: str, step: int) -> None:
        """Change nothing."""

    def log(self, text: str) -> None:
        """Write nothing."""
