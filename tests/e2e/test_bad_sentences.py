"""The sentences themselves: what they advise exists, and text mode says the same as JSON."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from apr.base.errors import AprError
from apr.cli.main import COMMANDS, apr
from command import run_apr
from e2e.refusal import check_outcome, every_error, train

ERRORS = every_error()


def commands(group: click.Group = apr, prefix: str = "apr") -> dict[str, click.Command]:
    """Every command by its whole name."""
    context = click.Context(group)
    found: dict[str, click.Command] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[f"{prefix} {name}"] = command
        if isinstance(command, click.Group):
            found |= commands(command, f"{prefix} {name}")
    return found


NAMES = commands()
OPTIONS = {"--help"} | {
    option
    for command in NAMES.values()
    for parameter in command.params
    if isinstance(parameter, click.Option)
    for option in (*parameter.opts, *parameter.secondary_opts)
}


def test_the_tables_are_not_empty() -> None:
    assert len(NAMES) > len(COMMANDS)
    assert {"--eos", "--run-dir", "--force"} <= OPTIONS
    assert len(ERRORS) > 100


@pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS)
def test_what_is_advised_exists(kind: type[AprError]) -> None:
    said = f"{kind.text} {kind.help}"
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", said)) <= OPTIONS
    for quoted in re.findall(r"`apr ([^`{]*)`", said):
        name, *rest = quoted.split()
        assert f"apr {name}" in NAMES, quoted
        assert not isinstance(NAMES[f"apr {name}"], click.Group) or f"apr {name} {rest[0]}" in NAMES, quoted


@pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS)
def test_how_it_is_said(kind: type[AprError]) -> None:
    for part in (kind.text, kind.help):
        assert part == part.strip(" .;:\n"), part
        assert "\n" not in part
        assert not re.search(r"\bApr\b|\bERROR\b|[Ee]rror:|please|[!]", part), part
    assert kind.text[0] == "{" or not kind.text[0].isupper()


CASES: dict[str, tuple[tuple[object, ...], str]] = {
    "missing": (("inspect", "MISSING"), "APR101"),
    "damaged": (("eval", "DAMAGED", "--text", "DAMAGED"), "APR219"),
    "an option": (train("MODEL", "SHARDS", "RUN", "--lr", "nan"), "APR001"),
    "no device": (train("MODEL", "SHARDS", "RUN", "--device", "cuda:16"), "APR601"),
    "usage": (("pretrain", "--no-such-option"), "APR005"),
    "data": (train("MODEL", "MISSING", "RUN"), "APR435"),
}


def test_a_name_that_is_no_text_reaches_a_machine() -> None:
    """The byte ff in a file name has no character; stdout of a real process would refuse it."""
    document = check_outcome(run_apr("inspect", "model\udcff.apr", "--format", "json"), "APR101")
    assert "udcff" in document["message"]


@pytest.mark.parametrize("case", CASES)
def test_a_real_process_says_one_sentence(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, case: str
) -> None:
    """Text mode: nothing on stdout, the sentence last on stderr, and the class's exit code."""
    arguments, error_id = CASES[case]
    damaged = tmp_path / "damaged.apr"
    raw = tiny_apr.read_bytes()
    damaged.write_bytes(raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:])
    names = {"MODEL": tiny_apr, "SHARDS": tiny_shards, "DAMAGED": damaged}
    names |= {"RUN": tmp_path / "run", "MISSING": tmp_path / "missing"}
    done = run_apr(*(names.get(str(argument), argument) for argument in arguments))
    assert (done.code, done.stdout) == (ERRORS[error_id].exit_code, "")
    assert done.stderr.splitlines()[-1].startswith(f"apr: {error_id}: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [damaged]
