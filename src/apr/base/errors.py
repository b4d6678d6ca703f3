"""The root of every error a user can meet.

An error is a value: a stable id, typed fields, one sentence made from them, and the next thing to do. Nothing
is worded at the raise site, so the same defect reads the same everywhere and `--format json` carries the
fields themselves. Each room keeps its own leaves in its `errors` module.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

EXIT_OK = 0
EXIT_NO = 1  # the answer is no: the input was judged and refused
EXIT_NO_ANSWER = 2  # no answer: usage, a missing file, a full disk, an interruption
EXIT_BUG = 3

_MAX_SHOWN = 1_000  # characters of one value in a sentence

_REGISTRY: dict[str, type[AprError]] = {}


@dataclass(kw_only=True, eq=False)
class AprError(Exception):
    """An error with a stable id, typed fields and one sentence.

    A subclass sets `id`, `text` (a format string over its fields), `help` (what to do next) and, where the
    input was judged rather than unreadable, keeps `exit_code` at 1.
    """

    id: ClassVar[str] = "APR000"
    text: ClassVar[str] = "unexpected error"
    help: ClassVar[str] = "report it"
    exit_code: ClassVar[int] = EXIT_NO

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = _REGISTRY.setdefault(cls.id, cls)
        assert known is cls or known.__qualname__ == cls.__qualname__, (
            f"{cls.id} is taken by {known.__name__}"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """The typed fields, in order of definition."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def message(self) -> str:
        """The defect: what, which value, which limit."""
        return self.text.format(**{name: _readable(value) for name, value in self.facts.items()})

    @property
    def advice(self) -> str:
        """What to do next."""
        return self.help.format(**{name: _readable(value) for name, value in self.facts.items()})

    def __str__(self) -> str:
        return f"{self.id}: {self.message}; {self.advice}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own __reduce__ replays positional args; these have none, and a pool would hang on it.
        return (_rebuild, (type(self), self.facts))


def _rebuild(kind: type[AprError], facts: dict[str, Any]) -> AprError:
    return kind(**facts)


def _readable(value: Any) -> str | float:
    if isinstance(value, float):
        return value  # as it is: a text may say how many digits it shows
    if isinstance(value, bool) or not isinstance(value, int):
        return _shortened(_on_one_line(str(value))) or "''"
    return f"{value:,}" if abs(value) >= 10_000 else str(value)


def _on_one_line(text: str) -> str:
    """The text with line breaks, control characters and half characters (of undecodable file names) spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shortened(text: str) -> str:
    """The text without its middle where nobody would read it to the end; the facts keep the whole."""
    if len(text) <= _MAX_SHOWN:
        return text
    return f"{text[: _MAX_SHOWN // 2]} ... {text[-_MAX_SHOWN // 4 :]}"


def known_errors() -> dict[str, type[AprError]]:
    """Every error class loaded so far, by id."""
    return dict(sorted(_REGISTRY.items()))


@dataclass(kw_only=True, eq=False)
class FileMissing(AprError):
    """The named path is not there, or is not a file."""

    id = "APR101"
    text = "there is no {kind} at {path}"
    help = "check the path, or make it with `{made_by}`"
    exit_code = EXIT_NO_ANSWER
    path: str
    kind: str = "file"
    made_by: str = ""  # the command that makes such a file, where there is one

    @property
    def advice(self) -> str:
        """The command that makes such a file, only where there is one."""
        return super().advice if self.made_by else "check the path"


@dataclass(kw_only=True, eq=False)
class CannotRead(AprError):
    """The operating system refused to read the path."""

    id = "APR102"
    text = "{path} cannot be read ({reason})"
    help = "check its permissions and its disk"
    exit_code = EXIT_NO_ANSWER
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class CannotWrite(AprError):
    """The operating system refused to write the path; nothing half-written is left."""

    id = "APR103"
    text = "{path} cannot be written ({reason})"
    help = "name a place that you may write to, or free space on its disk; nothing half-written is left"
    exit_code = EXIT_NO_ANSWER
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class OutputExists(AprError):
    """The output is already there and would be replaced."""

    id = "APR104"
    text = "{path} already exists"
    help = "name another output, or give --force to replace it"
    exit_code = EXIT_NO_ANSWER
    path: str


@dataclass(kw_only=True, eq=False)
class BadJson(AprError):
    """A JSON file that should be an object does not parse as one."""

    id = "APR105"
    text = "{path} is not a JSON object ({reason})"
    help = "make the file again; it may be cut off"
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class SystemRefused(AprError):
    """The operating system refused something that no room expected, such as a name that is too long."""

    id = "APR106"
    text = "{path} cannot be used ({reason})"
    help = "check the path, its permissions and its disk"
    exit_code = EXIT_NO_ANSWER
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class OutOfMemory(AprError):
    """The machine or the device could not give the memory that was asked for."""

    id = "APR107"
    text = "there is not enough memory for this ({reason})"
    help = "use a smaller batch, window or model, or a larger machine"
    exit_code = EXIT_NO_ANSWER
    reason: str


@dataclass(kw_only=True, eq=False)
class BadOption(AprError):
    """An option's value is outside what it takes."""

    id = "APR001"
    text = "{option} {value} is not {limit}"
    help = "give another value; the command's --help says what each option takes"
    exit_code = EXIT_NO_ANSWER
    option: str
    value: str
    limit: str


@dataclass(kw_only=True, eq=False)
class NotYet(AprError):
    """The option or value is named in the interface, but this release does not do it."""

    id = "APR002"
    text = "{option} is not supported by this release"
    help = "leave it out; what apr cannot do it refuses rather than ignores"
    exit_code = EXIT_NO_ANSWER
    option: str


@dataclass(kw_only=True, eq=False)
class PlaceUnclear(AprError):
    """The environment says that there are several processes, and not which of them this one is."""

    id = "APR007"
    text = "the environment says WORLD_SIZE {num_ranks}, and {name} {value}"
    help = "start the processes with torchrun, or unset WORLD_SIZE to run one"
    exit_code = EXIT_NO_ANSWER
    name: str
    value: str
    num_ranks: str


@dataclass(kw_only=True, eq=False)
class ExtraMissing(AprError):
    """An optional library is needed for what was asked."""

    id = "APR003"
    text = "{feature} needs the package {package}, which is not installed"
    help = "pip install 'apr-pretrain[{extra}]', or {instead}"
    exit_code = EXIT_NO_ANSWER
    feature: str
    package: str
    extra: str
    instead: str


@dataclass(kw_only=True, eq=False)
class Interrupted(AprError):
    """The command was stopped from the keyboard or by a signal."""

    id = "APR004"
    text = "interrupted by {signal}"
    help = "{kept}"
    exit_code = EXIT_NO_ANSWER
    signal: str
    kept: str = "nothing was written; run it again"
