"""What a run file or `--set` can get wrong. All of it is usage: nothing has been read or judged yet."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import EXIT_NO_ANSWER, AprError


@dataclass(kw_only=True, eq=False)
class RunFileMalformed(AprError):
    """The file of `--config` is not TOML."""

    id = "APR651"
    text = "the run file {path} is not TOML ({reason})"
    help = 'write lines such as lr = 5e-5 below sections such as [optimizer]; see "Run files" in docs/settings.md'
    exit_code = EXIT_NO_ANSWER
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class SettingUnknown(AprError):
    """A run file or `--set` names something that is no setting."""

    id = "APR652"
    text = "{place} sets {key}, and there is no such setting; the nearest is {nearest}"
    help = "docs/settings.md lists them all"
    exit_code = EXIT_NO_ANSWER
    place: str  # --set, or the file with its line
    key: str
    nearest: str


@dataclass(kw_only=True, eq=False)
class SettingOfWrongKind(AprError):
    """A setting was given a value of another kind than it takes."""

    id = "APR653"
    text = "{place} sets {key} to {value}, which is not {limit}"
    help = "give {limit}"
    exit_code = EXIT_NO_ANSWER
    place: str
    key: str
    value: str
    limit: str
