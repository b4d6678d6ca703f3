"""Between the loop and a logger: a queue that never makes the loop wait, and a count of what did not get through."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from apr.train.loggers import Logger

CAPACITY = 1024  # lines; at ten steps a second a pause of the network of more than a minute
CLOSE_S = 10.0  # that the end of a run waits for a logger

_Line = tuple[int, Mapping[str, float | None]]


class Relay:
    """One logger in a thread of its own, which does not keep the process alive.

    Whatever the logger does (raise at its start, raise at a line, hang), `send` returns at once, and what is not known
    to have been written is counted as lost.
    """

    def __init__(
        self,
        name: str,
        opener: Callable[[], Logger],
        history: Callable[[int], Iterable[_Line]] = lambda step: (),
        capacity: int = CAPACITY,
    ) -> None:
        """Start the thread, which opens the logger and brings what it lacks.

        Args:
            name: of the logger.
            opener: opens it.
            history: the lines after a step that were there before this process.
            capacity: lines that may wait.
        """
        self.name = name
        self.error: str | None = None  # the first thing that went wrong
        self._opener, self._history = opener, history
        self._lines: queue.Queue[_Line | None] = queue.Queue(capacity)
        self._sent = self._written = self._brought = 0
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._kinds: set[str] = set()
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._work, name=f"logger {name}", daemon=True)
        self._thread.start()

    def send(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Hand over the figures of a step; it never waits."""
        self._sent += 1
        try:
            self._lines.put_nowait((step, figures))
        except queue.Full:
            self._failed("full", f"it is {self._lines.maxsize:,} lines behind, and newer ones are left out")

    def news(self) -> list[str]:
        """Sentences about what went wrong since the last call; each kind of failure is told once in a run."""
        return [self._news.get() for _ in range(self._news.qsize())]

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Wait for what was sent, and no longer than `wait_s` seconds; then it counts as lost."""
        end = time.monotonic() + wait_s
        if self._thread.is_alive():
            with suppress(queue.Full):  # it hangs; what it does not take is lost
                self._lines.put(None, timeout=wait_s)
            self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive() and not self._is_abandoned:
            self._is_abandoned = True
            self._failed("end", f"it did not end within {wait_s:g} s")

    def to_record(self) -> dict[str, Any]:
        """{name, brought, lines, lost, error}: older lines brought, lines sent, those not known to be written."""
        return {
            "name": self.name,
            "brought": self._brought,
            "lines": self._sent,
            "lost": self._sent - self._written,
            "error": self.error,
        }

    def _failed(self, kind: str, what: str) -> None:
        if kind in self._kinds:
            return
        self._kinds.add(kind)
        self.error = self.error or what
        self._news.put(f"logger {self.name}: {what}; the run goes on, and metrics.jsonl has every step")

    def _work(self) -> None:
        logger: Logger | None = None
        try:
            logger = self._opener()
            for older in self._history(logger.last_step):
                self._brought += self._write(logger, older)
        except BaseException as error:  # a library may also ask to exit
            self._failed("start", f"it did not start ({_said(error)})")
        while not self._is_abandoned and (line := self._lines.get()) is not None:
            if logger is not None:
                self._written += self._write(logger, line)
        if logger is not None and not self._is_abandoned:
            try:
                logger.close()
            except BaseException as error:
                self._failed("end", f"it did not end well ({_said(error)})")

    def _write(self, logger: Logger, line: _Line) -> bool:
        """Whether the logger took a line. What was not measured is left out, not made 0."""
        step, figures = line
        measured = {name: float(value) for name, value in figures.items() if value is not None}
        try:
            logger.log(step, measured)
        except BaseException as error:
            self._failed("line", f"it did not take the line of step {step:,} ({_said(error)})")
            return False
        return True


def _said(error: BaseException) -> str:
    """An error of a library in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")[:300]
