"""The errors of pv that a user can meet: a stable id, typed fields, one sentence, and what to do next.

An error stops; a finding (pv.finding) reports. Nothing is worded at the raise site.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

EXIT_OK = 0
EXIT_NO = 1  # the answer is no
EXIT_NO_ANSWER = 2  # nothing to judge: usage, a missing path, a folder without contracts
EXIT_BUG = 3

_MAX_SHOWN = 300  # characters of one value in a sentence

_REGISTRY: dict[str, type[PvError]] = {}


@dataclass(kw_only=True, eq=False)
class PvError(Exception):
    """An error with a stable id, typed fields and one sentence."""

    id: ClassVar[str] = "PV000"
    text: ClassVar[str] = "unexpected error"
    help: ClassVar[str] = "report it"
    exit_code: ClassVar[int] = EXIT_NO_ANSWER

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = _REGISTRY.setdefault(cls.id, cls)
        assert known.__qualname__ == cls.__qualname__, f"{cls.id} is taken by {known.__name__}"

    @property
    def facts(self) -> dict[str, Any]:
        """The typed fields, in order of definition."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def message(self) -> str:
        """The defect: what, which value, which limit."""
        return self.text.format(**self._shown())

    @property
    def advice(self) -> str:
        """What to do next."""
        return self.help.format(**self._shown())

    def _shown(self) -> dict[str, Any]:
        """The fields as a sentence spells them; one that is empty by default is a part that may be missing."""
        return {
            f.name: "" if (v := getattr(self, f.name)) == "" == f.default else shown(v) for f in fields(self)
        }

    def __str__(self) -> str:
        return f"{self.message}; {self.advice}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own __reduce__ replays positional arguments, and these have none.
        return (_rebuild, (type(self), self.facts))


def _rebuild(kind: type[PvError], facts: dict[str, Any]) -> PvError:
    return kind(**facts)


def shown(value: Any) -> Any:
    """A value as it stands in a sentence: numbers with separators, text on one line and not endless."""
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
        return f"{value:,}"
    text = printable(str(value))
    if len(text) > _MAX_SHOWN:
        text = f"{text[: _MAX_SHOWN // 2]} ... {text[-_MAX_SHOWN // 4 :]}"
    return text or "''"


def printable(text: str) -> str:
    """A text on one line, with what a terminal would obey spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def known_errors() -> dict[str, type[PvError]]:
    """Every error class loaded so far, by id."""
    return dict(sorted(_REGISTRY.items()))


@dataclass(kw_only=True, eq=False)
class PathMissing(PvError):
    """The named path is not there.

    Nothing was read and nothing judged. A path that is misspelled in a script would otherwise look like a folder
    without errors.
    """

    id = "PV101"
    text = "there is no file or folder at {path}"
    help = "check the path"
    path: str


@dataclass(kw_only=True, eq=False)
class PathUnreadable(PvError):
    """The operating system refused to read the path, or to write it.

    Permissions, a full disk, or a folder where a file is expected; the reason is that of the operating system.
    """

    id = "PV102"
    text = "{path} cannot be {done} ({reason})"
    help = "check its permissions and its disk"
    path: str
    reason: str
    done: str = "read"


@dataclass(kw_only=True, eq=False)
class NoContracts(PvError):
    """The folder holds no contract, so nothing was judged.

    An empty folder is no pass: a check that looks at the wrong place would be green for ever.
    """

    id = "PV103"
    text = "{path} holds no contract"
    help = "name a folder that holds .yaml files; hidden ones and binding.yaml are no contracts"
    path: str


@dataclass(kw_only=True, eq=False)
class UsageWrong(PvError):
    """The command line does not parse.

    An option is unknown, lacks its value, or contradicts another; nothing was done.
    """

    id = "PV104"
    text = "{what}"
    help = "see `{command} --help`"
    what: str
    command: str


@dataclass(kw_only=True, eq=False)
class NameUnknown(PvError):
    """No rule and no error has that name.

    Rules and errors are called by an id, such as STRICT-011 or PV302, or by a name, such as control-missing.
    """

    id = "PV105"
    text = "no rule and no error has the id or the name {name}{nearest}"
    help = "`pv explain` lists those that there are"
    name: str
    nearest: str = ""


@dataclass(kw_only=True, eq=False)
class BaselineWrong(PvError):
    """The baseline is not a file that `pv lint --write-baseline` writes.

    It was edited, cut off, or is another file. Findings that it would excuse cannot be told from new ones.
    """

    id = "PV106"
    text = "{path} is no baseline of pv ({reason})"
    help = "write it again with `pv lint DIR --write-baseline {path}`"
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class Interrupted(PvError):
    """Somebody stopped the command.

    What was recorded before stays; of what was running nothing is recorded.
    """

    id = "PV107"
    text = "interrupted"
    help = "run it again"


@dataclass(kw_only=True, eq=False)
class YamlWrong(PvError):
    """The file is not one YAML document that a contract can be.

    A contract is UTF-8, one document, a mapping, and within the limits of docs/pv-design.md; the place is the one
    where reading stopped.
    """

    id = "PV201"
    text = "{path}:{line}:{column}: {what}"
    help = "correct it there"
    exit_code = EXIT_NO
    path: str
    line: int
    column: int
    what: str
