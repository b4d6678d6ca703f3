"""Bytes of plain, gzip and zstandard files, all through one door.

A compressed file that is cut off must not look like a shorter one. gzip says so by itself; the stream reader
of the zstandard library ends quietly, so frames are fed by hand here and the last one must be complete.
"""

from __future__ import annotations

import errno
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from apr.base.errors import CannotRead
from apr.data.errors import CompressedFileBroken

COMPRESSIONS = (".gz", ".zst")
_BUFFER_BYTES = 1 << 20
_ZSTD_INPUT_BYTES = 1 << 8  # a hostile block of 4 bytes unfolds to 128 KiB, so this bounds memory to 8 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteStream:
    """An open corpus file."""

    content: BinaryIO  # decompressed
    stored: BinaryIO  # as it lies on disk; its position is the progress

    @property
    def stored_bytes_read(self) -> int:
        """Bytes taken from the disk so far."""
        return self.stored.tell()

    def skip(self, num_bytes: int) -> int:
        """Pass over bytes of the content; returns the line breaks in them.

        Raises:
            OSError: there are not so many.
        """
        lines = 0
        while num_bytes:
            block = self.content.read(min(num_bytes, _BUFFER_BYTES))
            if not block:
                raise OSError(errno.EIO, "it has become shorter")
            lines += block.count(b"\n")
            num_bytes -= len(block)
        return lines


@contextmanager
def open_stream(path: Path) -> Iterator[ByteStream]:
    """Open a file for reading, decompressed by its suffix.

    Raises:
        CannotRead: the operating system refused.
        CompressedFileBroken: the compressed data are damaged or cut off (raised while reading).
    """
    try:
        with path.open("rb") as stored:
            yield ByteStream(content=_decompressed(path.suffix.lower(), stored), stored=stored)
    except (gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError) as error:
        raise CompressedFileBroken(path=str(path), reason=str(error)) from error
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error


def _decompressed(suffix: str, stored: BinaryIO) -> BinaryIO:
    if suffix not in COMPRESSIONS:
        return stored
    if not stored.read(1):
        raise EOFError("it is empty")  # gzip would read it as an empty document
    stored.seek(0)
    if suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=stored, mode="rb"), _BUFFER_BYTES)
    return io.BufferedReader(_ZstdFrames(stored), _BUFFER_BYTES)


class _ZstdFrames(io.RawIOBase):
    """The content of all frames of a zstandard file, in order."""

    def __init__(self, stored: BinaryIO) -> None:
        self._stored = stored
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame: Any = self._decompressor.decompressobj()  # None between frames
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            block = self._stored.read(_ZSTD_INPUT_BYTES)
            if not block:
                if self._frame is not None:
                    raise EOFError("it is cut off inside a frame")
                return 0
            self._ready = memoryview(self._feed(block))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _feed(self, block: bytes) -> bytes:
        unfolded = []
        while block:
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            unfolded.append(self._frame.decompress(block))
            if not self._frame.eof:
                break
            block, self._frame = self._frame.unused_data, None
        return b"".join(unfolded)
