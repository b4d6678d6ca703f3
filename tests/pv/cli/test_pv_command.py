"""The command itself: light, the same under three names, a sentence for whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import pv.cli.main
from command import run_apr
from pv.cli.main import COMMANDS, entry
from pv.errors import known_errors
from pv.rules.examples import Example

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "numpy", "transformers", "rich", "hypothesis", "pytest")
CLEAN = Example(changes=(("timeout_s: 60", "timeout_s: 61"),))


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pv", *arguments]
    strict = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}  # a terminal that can show little
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=strict)


def command_of(name: str) -> click.Command:
    found = pv.cli.main.pv.get_command(click.Context(pv.cli.main.pv), name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        [],
        ["explain", "STRICT-011"],
        ["validate", "contracts/tokens-v1.yaml"],
        ["lint", "contracts"],
    ],
)
def test_nothing_heavy_is_loaded(arguments: list[str]) -> None:
    program = (
        f"import sys; from pv.cli.main import entry; entry({arguments!r}); "
        f"sys.exit(','.join(set(sys.modules) & set({HEAVY!r})) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_is_what_the_commands_say(name: str) -> None:
    command = command_of(name)
    assert command.name == name
    assert (command.help or "").strip().splitlines()[0] == COMMANDS[name][2]
    assert f"pv {name}" in (command.help or "")
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help


def test_apr_contracts_is_the_same() -> None:
    mine, theirs = run("explain", "STRICT-011"), run_apr("contracts", "explain", "STRICT-011")
    assert (theirs.code, theirs.stdout) == (mine.returncode, mine.stdout) == (0, mine.stdout)
    assert run_apr("contracts", "--help").stdout == run("--help").stdout
    refused = run_apr("contracts", "validate", "absent.yaml", "--profile", "pv2")
    assert (refused.code, refused.stdout) == (2, "")


def test_no_arguments_is_help_and_no_answer(capsys) -> None:
    assert entry([]) == 2
    assert "validate" in capsys.readouterr().out


def test_a_bug_is_a_sentence_with_code_3(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pv.cli.main.pv, "main", lambda **_: 1 / 0)
    monkeypatch.delenv("PV_TRACEBACK", raising=False)
    assert entry(["lint"]) == 3
    told = capsys.readouterr().err
    assert told.startswith("pv: this is a bug (ZeroDivisionError")
    assert told.count("\n") == 1
    monkeypatch.setenv("PV_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        entry(["lint"])


def test_an_interruption_is_no_answer(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pv.cli.main.pv, "main", stopped)
    assert entry(["lint"]) == 2
    assert "PV107" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_bug(make_project) -> None:
    path = make_project(CLEAN)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pv", "explain"]
    done = subprocess.run(
        command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=path.parent
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert done.returncode != 3


@pytest.mark.parametrize("name", ["no\udce9contract.yaml", "new\nline.yaml"])
def test_odd_file_names_are_spelled_out(tmp_path: Path, name: str) -> None:
    try:
        (tmp_path / name).write_text("metadata: [\n")
    except OSError:
        pytest.skip("this file system takes no such name")
    for command in (["validate", name], ["lint", name], ["lint", ".", "--format", "sarif"],
                    ["lint", ".", "--format", "github"], ["lint", ".", "--format", "json"]):  # fmt: skip
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 1, (command, done.stderr)
        assert "Traceback" not in done.stderr
        assert (done.stdout + done.stderr).count("\n") <= 4


def test_every_error_says_what_and_what_to_do() -> None:
    for kind in known_errors().values():
        assert kind.text
        assert kind.help
        assert kind.__doc__
