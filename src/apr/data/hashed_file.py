"""Files that are hashed while they are written, and that can be taken up again where they were once synced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from apr.base.errors import CannotWrite
from apr.data.errors import EncodingStateBroken

_BLOCK_BYTES = 1 << 20


class HashedFile:
    """A file under its final name, on the disk when it is synced or sealed.

    Args:
        path: where.
        keep_bytes: how much of what is there to keep, and hash again; 0 begins anew.

    Raises:
        EncodingStateBroken: there is less.
        OSError: from every method, when the operating system refuses.
    """

    def __init__(self, path: Path, keep_bytes: int = 0) -> None:
        self._digest = hashlib.sha256()
        self.num_bytes = keep_bytes
        self._stream: BinaryIO = _taken_up(path, keep_bytes, self._digest) if keep_bytes else path.open("wb")

    def write(self, content: bytes | memoryview) -> None:
        """Append bytes."""
        self._stream.write(content)
        self._digest.update(content)
        self.num_bytes += len(content)

    def flush(self) -> None:
        """Let other readers of the file see what was written."""
        self._stream.flush()

    def sync(self) -> None:
        """Put what was written on the disk."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def seal(self) -> str:
        """Put everything on the disk and close; returns the sha256 of the whole file."""
        self.sync()
        self._stream.close()
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """Close, whatever became of the bytes."""
        with suppress(OSError):  # on a full disk closing fails too: what it still held is given up
            self._stream.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into an error with an id.

    Raises:
        CannotWrite: it refused.
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(path=error.filename or str(path), reason=error.strerror or str(error)) from error


def _taken_up(path: Path, keep_bytes: int, digest: hashlib._Hash) -> BinaryIO:
    if not path.is_file() or path.stat().st_size < keep_bytes:
        raise EncodingStateBroken(
            path=str(path), reason=f"it has not the {keep_bytes} bytes that were synced"
        )
    stream = path.open("r+b")
    stream.truncate(keep_bytes)
    while block := stream.read(_BLOCK_BYTES):
        digest.update(block)
    return stream
