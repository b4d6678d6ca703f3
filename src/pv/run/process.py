"""Run one program in a process group of its own, and leave nothing of it behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

MAX_OUTPUT_BYTES = 64 << 20  # of one run; a program that prints more is stopped
_GRACE_S = 2.0  # between asking to stop and killing
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a process ended."""

    exit_code: int | None  # None when it did not end by itself
    signal: str | None = None  # that ended it, sent by somebody else
    stopped: str | None = None  # why we stopped it, as a clause
    missing: str | None = None  # the program that could not be started, and why
    seconds: float
    stdout: Path = field(repr=False)
    stderr: Path = field(repr=False)

    @property
    def no_answer(self) -> str | None:
        """Why its end says nothing, as a clause; None when it ended by itself."""
        if self.missing:
            return self.missing
        if self.stopped:
            return self.stopped
        return f"it was killed by {self.signal}" if self.signal else None

    def text(self, stream: str = "both") -> str:
        """What it printed.

        Args:
            stream: "stdout", "stderr" or "both", the one after the other.
        """
        paths = {"stdout": [self.stdout], "stderr": [self.stderr]}.get(stream, [self.stdout, self.stderr])
        return "".join(path.read_bytes().decode("utf-8", "replace") for path in paths)


def run_process(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float, folder: Path, stop: Event
) -> Finished:
    """Run a program until it ends, or until it must.

    Args:
        argv: the program and its arguments.
        cwd: where it runs.
        env: all its environment.
        timeout_s: after which the whole group is killed.
        folder: an empty one for what it prints.
        stop: set when somebody interrupts pv.
    """
    out, err = folder / "stdout", folder / "stderr"
    start = time.monotonic()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        try:
            process = subprocess.Popen(
                list(argv), cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
            reason = getattr(error, "strerror", None) or str(error)
            missing = f"{argv[0] if argv else 'nothing'} cannot be started ({reason})"
            return Finished(exit_code=None, missing=missing, seconds=0.0, stdout=out, stderr=err)
    stopped = _wait(process.pid, start, timeout_s, (out, err), stop)
    _end_group(process, gently=stopped is not None)
    _end_strays(env.get("PV_REPORT"))
    seconds = time.monotonic() - start
    code = process.returncode
    if stopped is not None:
        return Finished(exit_code=None, stopped=stopped, seconds=seconds, stdout=out, stderr=err)
    if code < 0:
        return Finished(exit_code=None, signal=_signal(-code), seconds=seconds, stdout=out, stderr=err)
    return Finished(exit_code=code, seconds=seconds, stdout=out, stderr=err)


def _wait(pid: int, start: float, timeout_s: float, outputs: tuple[Path, ...], stop: Event) -> str | None:
    """Wait for the end without reaping, so that the group keeps its number; why to stop it when it does not end."""
    while not _ended(pid):
        if time.monotonic() - start > timeout_s:
            return f"it did not end within {timeout_s:g} s"
        if sum(path.stat().st_size for path in outputs) > MAX_OUTPUT_BYTES:
            return f"it printed more than {MAX_OUTPUT_BYTES:,} bytes"
        if stop.is_set():
            return "it was interrupted"
        time.sleep(_POLL_S)
    return None


def _ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_group(process: subprocess.Popen[bytes], *, gently: bool) -> None:
    """End what is left of the group, then reap its first process."""
    if gently:
        _send(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline and not _ended(process.pid):
            time.sleep(_POLL_S)
    _send(process.pid, signal.SIGKILL)
    process.wait()


def _end_strays(report: str | None) -> None:
    """End what left the group and still has this run's report in its environment; without /proc nothing is found."""
    mark = f"PV_REPORT={report}".encode()
    for place in Path("/proc").glob("[0-9]*") if report else ():
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is somebody else's
            if mark in (place / "environ").read_bytes().split(b"\0"):
                os.kill(int(place.name), signal.SIGKILL)


def _send(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
