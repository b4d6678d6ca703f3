"""Run files and `--set`: what they ask for, checked against the table of settings, with where each value stands.

The order of precedence is option, --set, file, mode, default. The last two are the plan's business.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr.base.errors import BadOption, CannotRead
from apr.base.files import require_file
from apr.train.setting_errors import RunFileMalformed, SettingOfWrongKind, SettingUnknown
from apr.train.settings import PAIR, SETTINGS, WORDS, Setting, nearest_setting

_HEADER = re.compile(r"\s*\[\s*([\w-]+)\s*\]\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([\w.-]+)\s*=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One value that was asked for, and where it stands."""

    field: str
    value: Any
    source: str


def asked_values(
    config: Path | None, assignments: Iterable[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Merge a run file, --set and options into the fields of a RunSpec.

    Args:
        config: the TOML file, or None.
        assignments: of --set, each `section.key=value`; a later one wins.
        options: fields given on the command line; None and False stand for not given.

    Returns:
        Fields by name, with `places`: where each one that no option gave was asked for.

    Raises:
        FileMissing, CannotRead, RunFileMalformed: the file cannot be had.
        BadOption, SettingUnknown, SettingOfWrongKind: something in it, or in --set, is no setting.
    """
    values, places = dict(options), {}
    asked = [*(read_run_file(config) if config else ()), *map(read_assignment, assignments)]
    for item in asked:
        given = options.get(item.field)
        if given is None or given is False:  # not a comparison: 0 is a value
            values[item.field], places[item.field] = item.value, item.source
    return {**values, "places": places}


def read_run_file(path: Path) -> Iterator[Asked]:
    """Read every setting of a TOML run file; its paths are relative to its folder.

    Raises:
        FileMissing, CannotRead, RunFileMalformed, SettingUnknown, SettingOfWrongKind.
    """
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RunFileMalformed(path=str(path), reason=reason) from error
    lines = _line_numbers(text)
    for key, value in _flattened(document):
        place = f"{path}:{lines[key]}" if key in lines else str(path)
        setting = _known(key, place)
        yield Asked(
            field=setting.field,
            value=_read(setting, value, path.parent, place),
            source=f"{place} {key}",
        )


def read_assignment(text: str) -> Asked:
    """Read one `section.key=value` of --set; the value is TOML, and a word or a path needs no quotes.

    Raises:
        BadOption, SettingUnknown, SettingOfWrongKind.
    """
    key, sign, written = (part.strip() for part in text.partition("="))
    if not sign or not key:
        raise BadOption(option="--set", value=text, limit="section.key=value")
    setting = _known(key, "--set")
    value = _read(setting, _parsed(setting, written), Path(), "--set")
    return Asked(field=setting.field, value=value, source=f"--set {key}")


def _text(path: Path) -> str:
    require_file(path, kind="run file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
    except ValueError as error:
        raise RunFileMalformed(path=str(path), reason="it is not UTF-8") from error


def _flattened(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Pairs of `section.key` and value; what is not in a section stands alone, and is then unknown."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def _known(key: str, place: str) -> Setting:
    setting = SETTINGS.get(key)
    if setting is None:
        raise SettingUnknown(place=place, key=key, nearest=nearest_setting(key))
    return setting


def _read(setting: Setting, value: Any, folder: Path, place: str) -> Any:
    taken = setting.kind.read(value, folder)
    if taken is None:
        spelled = json.dumps(value, default=str, ensure_ascii=False)
        raise SettingOfWrongKind(place=place, key=setting.key, value=spelled, limit=setting.kind.says)
    return taken


def _parsed(setting: Setting, written: str) -> Any:
    """A value of --set as TOML reads it; what is not TOML stays text, which most kinds then refuse."""
    toml = ("'", '"', "[") if setting.kind is WORDS else ("'", '"')
    if setting.kind.is_text and not written.startswith(toml):
        return written
    spelled = f"[{written}]" if setting.kind is PAIR and not written.startswith("[") else written
    try:
        document = tomllib.loads(f"value = {spelled}")
    except (ValueError, RecursionError):
        return written
    return document["value"] if set(document) == {"value"} else written


def _line_numbers(text: str) -> dict[str, int]:
    """Where each key stands, as far as a line shows it: tomllib does not say."""
    if '"""' in text or "'''" in text:
        return {}  # a line inside such a text may look like a key
    section, found = "", {}
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            section = f"{header[1]}."
        elif key := _KEY.match(line):
            found[section + key[1]] = number
    return found
