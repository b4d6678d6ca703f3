"""Encode a corpus in a process of its own, which kills itself at a given moment.

A moment is a file of the output that is about to be opened, renamed or removed, or a write of which only half has
reached the file. Without a moment the encoder runs to its end and prints how many there were.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from apr.data import encode
from apr.data.encode_options import EncodeOptions
from apr.data.hashed_file import HashedFile
from apr.data.spans import parse_portion
from byte_tokenizer import ByteTokenizer

OPTIONS = EncodeOptions(shard_tokens=1000, val_fraction=0.3, on_bad="skip")
WITHOUT = {kind: replace(OPTIONS, dedup=kind) for kind in ("exact", "near")}
_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir")


class Moments:
    """Counts moments, and ends the process at one of them."""

    def __init__(self, folder: str, last: int) -> None:
        self._folder = folder
        self._last = last
        self.count = 0

    def on_event(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in _EVENTS and str(arguments[0]).startswith(self._folder):
            self.pass_one()

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def run(corpus: str, out: str, portion: str, last: int) -> None:
    encode._BATCH_DOCUMENTS = 7
    encode._JOURNAL_EVERY_S = 0.0
    os.fsync = lambda handle: None  # a kill loses nothing that the system was given; only a power cut does
    moments = Moments(out, last)
    sys.addaudithook(moments.on_event)
    real = HashedFile.write

    def write(file: HashedFile, content: bytes | memoryview) -> None:
        half = len(content) // 2
        real(file, content[:half])
        if moments.count + 1 == last:
            file._stream.flush()
        moments.pass_one()
        real(file, content[half:])

    HashedFile.write = write
    paths = [Path(path) for path in corpus.split(",")]
    if portion in WITHOUT:
        encode.encode_corpus(paths, ByteTokenizer(), Path(out), options=WITHOUT[portion])
    elif portion:
        encode.encode_part(paths, ByteTokenizer(), Path(out), options=OPTIONS, portion=parse_portion(portion))
    else:
        encode.encode_corpus(paths, ByteTokenizer(), Path(out), options=OPTIONS)
    print(moments.count)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
