"""Where metrics go besides metrics.jsonl: a name, a package of its own, and one small protocol.

What a backend keeps when a run is resumed, and what it cannot, is said at its class.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from apr.base.errors import BadJson, BadOption, ExtraMissing
from apr.base.files import read_json
from apr.train.spec import RunSpec

PROJECT = "apr"  # of backends that sort runs into projects; WANDB_PROJECT wins there
NO_LOGGER = "none"
_MODULES = {"tensorboard": "torch.utils.tensorboard", "trackio": "trackio", "wandb": "wandb"}
LOGGERS = tuple(_MODULES)
LOGGERS_FILE = "loggers.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """What a logger is told of the run when it is opened."""

    folder: Path
    id: str  # of the run, the same after a resume
    after_step: int  # 0 for a run from its start; a resumed one sends the steps after it
    settings: Mapping[str, Any]  # the plan's values

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.folder.absolute().name


class Logger(Protocol):
    """A backend; only the thread that opened it ever calls it."""

    last_step: (
        int  # the backend has the steps up to it, or cannot say; those after it are sent from metrics.jsonl
    )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step; whatever is raised is reported and costs that line."""
        ...

    def close(self) -> None:
        """Write what is still held back."""
        ...


def checked_loggers(spec: RunSpec) -> tuple[str, ...]:
    """The loggers that were asked for, each of which can be imported.

    Raises:
        BadOption: a name is no logger's, or the run is synthetic and has nothing to log.
        ExtraMissing: its package cannot be imported.
    """
    asked, source = spec.log or (), spec.source_of("log")
    names = tuple(name for name in dict.fromkeys(asked) if name != NO_LOGGER)
    if any(name not in LOGGERS for name in names) or (names and NO_LOGGER in asked):
        limit = f"{', '.join(LOGGERS)} (several with commas), or {NO_LOGGER} alone"
        raise BadOption(option=source, value=",".join(asked), limit=limit)
    if names and spec.synthetic:
        raise BadOption(option=source, value=",".join(asked), limit="left out with --synthetic")
    for name in names:
        require_importable(name, source)
    return names


def require_importable(name: str, source: str) -> None:
    """Refuse a logger whose package is missing or broken, before anything else is done.

    Raises:
        ExtraMissing.
    """
    try:
        importlib.import_module(_MODULES[name])
    except Exception as error:  # a broken installation raises anything
        feature = f"{source} {name}"
        instead = f"leave {name} out of --log ({type(error).__name__}: {error})"
        raise ExtraMissing(feature=feature, package=name, extra=name, instead=instead) from error


def recorded_loggers(run_dir: Path) -> tuple[str, ...] | None:
    """The loggers that a run had, for a resume that names none; None where it had none.

    Raises:
        BadJson: the file is damaged.
    """
    path = run_dir / LOGGERS_FILE
    if not path.is_file():
        return None
    names = read_json(path, "list of loggers", "apr pretrain").get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadJson(path=str(path), reason="it lists no names")
    return tuple(names)


def open_logger(name: str, run: LoggedRun) -> Logger:
    """Open a backend; call it in the thread that will use it, since it may wait for a network."""
    from apr.train import logger_backends  # not needed by a run without a logger

    openers: dict[str, Callable[[LoggedRun], Logger]] = {
        "tensorboard": logger_backends.Tensorboard,
        "trackio": logger_backends.Trackio,
        "wandb": logger_backends.Wandb,
    }
    return openers[name](run)
