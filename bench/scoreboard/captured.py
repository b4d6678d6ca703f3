"""Run one load in a process of its own, and keep whatever it said and how it ended.

The process is forked, so that the libraries are imported once for all faults; a crash, or one that never ends, is a
result like another. This module runs in the environment of each loader and imports the standard library only.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT_S = 300
_BAR = re.compile(r"\d+%\|")  # what tqdm draws
_COLOUR = re.compile(r"\x1b\[\d*m")


def run_forked(work: Callable[[], dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Call `work` in a fork; returns {outcome, error, said} and what it returned.

    `outcome` is accepted, refused (an exception), crashed (a signal) or endless. `said` is every warning, every log
    record from WARNING up and every line on stderr that is no progress bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result, stderr = folder / "result.json", folder / "stderr.txt"
    child = os.fork()
    if child == 0:
        _child(work, result, stderr)
    _, status = os.waitpid(child, 0)
    if result.is_file():
        found = json.loads(result.read_text(encoding="utf-8"))
    else:
        number = os.waitstatus_to_exitcode(status)
        outcome = "endless" if number == -signal.SIGALRM else "crashed"
        found = {"outcome": outcome, "error": f"the process ended with {number}", "said": []}
    text = stderr.read_text(encoding="utf-8", errors="replace")
    lines = (line.strip() for line in text.replace("\r", "\n").splitlines())
    found["said"] += [one_line(line) for line in lines if line and not _BAR.search(line)]
    return found


def one_line(text: str) -> str:
    """The beginning of a message, as one line; of a traceback inside it, the last line."""
    before, mark, traceback_ = _COLOUR.sub("", text).strip().partition("Traceback (most recent call last):")
    last = traceback_.strip().splitlines()[-1:] if mark else []
    return " ".join(" ".join([before, *last]).split())[:300]


def _child(work: Callable[[], dict[str, Any]], result: Path, stderr: Path) -> None:
    signal.alarm(LIMIT_S)
    for number, path in ((1, os.devnull), (2, str(stderr))):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
    said: list[str] = []
    _listen(said)
    try:
        found = {"outcome": "accepted", "error": None} | work()
    except BaseException as error:  # SystemExit is a refusal too
        traceback.print_exc(file=(stderr.parent / "traceback.txt").open("w"))
        said.clear()  # what leads to a refusal is part of it
        found = {"outcome": "refused", "error": f"{type(error).__name__}: {one_line(str(error))}"}
    result.write_text(json.dumps(found | {"said": said}), encoding="utf-8")
    sys.stderr.flush()
    os._exit(0)


class _Listener(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(one_line(record.getMessage()))


def _listen(said: list[str]) -> None:
    def shown(message: Any, *_: Any, **__: Any) -> None:
        said.append(one_line(str(message)))

    warnings.simplefilter("always")
    warnings.showwarning = shown
    listener = _Listener(said)
    logging.getLogger().addHandler(listener)
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        if not logger.propagate:  # a library that shows its records itself
            logger.handlers = [listener]
