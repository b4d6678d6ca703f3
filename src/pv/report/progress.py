"""How a run of claims goes on, on stderr: a line a verdict, and on a terminal one that says what is being done now."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType

from pv.errors import printable
from pv.run.verdict import Result

_REFRESH_S = 0.2
_MAX_NAMED = 3


class Progress(AbstractContextManager["Progress"]):
    """A watcher of runs."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._ended = 0
        self._doing: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._is_terminal = sys.stderr.isatty()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def __enter__(self) -> Progress:
        if self._is_terminal:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._is_terminal:
            self._thread.join()
            self._write("\r\x1b[K")

    def note(self, claim_id: str, doing: str) -> None:
        """A claim has come to a step."""
        with self._lock:
            self._doing[claim_id] = (doing, time.monotonic())

    def done(self, result: Result) -> None:
        """A claim has its verdict."""
        with self._lock:
            self._doing.pop(result.id, None)
            self._ended += 1
            seconds = result.end_unix_s - result.start_unix_s
            clear = "\r\x1b[K" if self._is_terminal else ""
            head = f"[{self._ended}/{self._total}] {result.word:<14} {result.id}"
            why = "" if result.verdict.value == "survived" else f": {printable(result.why)}"
            self._write(f"{clear}{head} ({max(seconds, 0):.1f} s){why}\n")

    def _refresh(self) -> None:
        while not self._over.wait(_REFRESH_S):
            with self._lock:
                room = shutil.get_terminal_size().columns - 1  # a line that wraps could not be taken back
                self._write(f"\r\x1b[K{self._now()[:room]}")

    def _now(self) -> str:
        now = time.monotonic()
        named = [f"{name} ({doing}, {now - since:.0f} s)" for name, (doing, since) in self._doing.items()]
        more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
        return f"{self._ended}/{self._total} done; {', '.join(named[:_MAX_NAMED])}{more}"

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
