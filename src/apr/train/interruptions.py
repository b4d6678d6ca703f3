"""Ctrl-C, SIGTERM and a lost terminal: how they end a run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and a lost terminal end the work as Ctrl-C does, with a record, instead of killing the process."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(handle, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _handling(handle: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    try:
        previous = {number: signal.signal(number, handle) for number in numbers if not _is_spared(number)}
    except ValueError:  # not the main thread: whoever owns the signals decides
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _is_spared(number: signal.Signals) -> bool:
    """Whether nohup had a lost terminal ignored."""
    return number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Turn the first signal into a question that the loop asks between steps; a second one stops at once."""
    asked = False

    def answer() -> bool:
        return asked

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    with _handling(handle, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield answer
