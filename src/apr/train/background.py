"""Work beside the loop: one piece at a time, whose error is heard by the run."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """One piece of work at a time, in a thread that does not keep the process alive."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin work, once what was begun before is done.

        Raises:
            BaseException: whatever that raised.
        """
        self.finish()

        def run() -> None:
            try:
                work()
            except BaseException as error:  # raised again where the run can be ended by it
                self._error = error

        self._thread = threading.Thread(target=run, name="saving", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what the work raised, if it is done."""
        if self._thread is not None and not self._thread.is_alive():
            self.finish()

    def finish(self) -> None:
        """Wait for the work, and raise what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
