"""Help answers at once, says what is true, and its examples run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from apr.cli import demo_command
from apr.cli.main import COMMANDS, LazyGroup, apr, entry
from apr.train.plan import _DEFAULTS, DEFAULT_ARCH, MODES
from apr.train.spec import RunSpec
from tiny import QUICK, make_corpus, make_hf_folder

pytestmark = pytest.mark.usefixtures("one_thread")
HEAVY = ("torch", "numpy", "transformers", "tokenizers", "rich")


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, `apr` itself included."""
    context = click.Context(apr)
    yield "apr", apr
    for name in apr.list_commands(context):
        command = apr.get_command(context, name)
        assert command is not None
        yield f"apr {name}", command
        if isinstance(command, click.Group):
            for inner, child in command.commands.items():
                yield f"apr {name} {inner}", child


ALL = dict(all_commands())
LEAVES = {name: command for name, command in ALL.items() if not isinstance(command, click.Group)}


def help_of(command: click.Command) -> str:
    return command.get_help(click.Context(command))


def examples(command: click.Command) -> list[list[str]]:
    """The command lines of a help text, words split as a shell does."""
    lines = (command.help or "").replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip().startswith("apr ")]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("apr.cli.main", []),
        ("apr.cli.main", ["--help"]),
        ("apr.cli.main", ["--version"]),
        ("apr.cli.main", ["no-such-command"]),
        ("pv.cli.main", ["--help"]),
    ],
)
def test_an_entry_point_loads_nothing_heavy(module: str, arguments: list[str]) -> None:
    program = (
        f"import sys; from {module} import entry; entry({arguments!r}); "
        f"sys.exit(','.join(set(sys.modules) & set({HEAVY!r})) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_is_what_the_commands_say() -> None:
    for name, (_, _, text) in COMMANDS.items():
        assert (ALL[f"apr {name}"].help or "").strip().splitlines()[0] == text
        assert ALL[f"apr {name}"].name == name
    assert isinstance(apr, LazyGroup)
    said = re.sub(r"\s+", " ", help_of(apr))
    assert all(f" {name} {text}" in said for name, (_, _, text) in COMMANDS.items())


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_an_example_of_itself(name: str) -> None:
    found = examples(LEAVES[name])
    assert found
    assert all(words[: len(name.split())] == name.split() for words in found)


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_is_explained(name: str) -> None:
    for parameter in LEAVES[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.opts[-1] in help_of(LEAVES[name])


def test_every_option_of_pretrain_reaches_the_run() -> None:
    own = {"output_format", "dry_run"}  # of the command itself
    elsewhere = {"config", "assignments"}  # where fields may stand instead
    assert all(parameter.expose_value for parameter in LEAVES["apr pretrain"].params)
    named = {parameter.name for parameter in LEAVES["apr pretrain"].params}
    assert named - own - elsewhere == {field.name for field in fields(RunSpec)} - {"places"}


def test_a_plan_takes_every_option_of_a_run() -> None:
    own = {"dry_run", "resume"}  # what would start or continue a run
    run, plan = ({p.name: p for p in LEAVES[f"apr {name}"].params} for name in ("pretrain", "plan"))
    assert plan.keys() - {"why"} == run.keys() - own
    assert all(type(plan[name]) is type(run[name]) for name in plan.keys() & run.keys())


def test_the_defaults_in_the_help_are_the_plans() -> None:
    said = re.sub(r"\s+", " ", help_of(LEAVES["apr pretrain"]))
    assert (_DEFAULTS["freeze"], _DEFAULTS["lora"]) == ((), "")  # nothing, which needs no words
    for name, value in _DEFAULTS.items() - {("freeze", ()), ("lora", "")}:
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        option = name.replace("_", "-")
        assert re.search(rf"--{option}\b.*?\[default: {re.escape(text)}\]", said), name
    assert f"[default: {DEFAULT_ARCH}]" in said
    for values in MODES.values():
        lr = f"{values['lr']:.0e}".replace("e-0", "e-")
        assert f"{lr}, {values['warmup_steps']}, {values['target_val_loss']}" in said


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, tiny_apr: Path, tiny_shards: Path) -> Path:
    """A folder where every path that the examples name is there, small."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(tiny_apr, folder / "model.apr")
    shutil.copytree(tiny_shards, folder / "shards")
    make_hf_folder(folder / "checkpoint")
    make_corpus(folder / "text")
    for index in (1, 2):
        source = ("--corpus", folder / "text", "--tokenizer", folder / "model.apr", "--part", f"{index}/2")
        arguments = ("tokenize", "encode-corpus", *source, "-o", folder / f"part-{index}")
        assert entry([*map(str, arguments)]) == 0
    (folder / "book.txt").write_text("the river holds the stone\n")
    places = ("--init", folder / "model.apr", "--dataset", folder / "shards", "--run-dir", folder / "run")
    assert entry(["pretrain", *map(str, places), *QUICK]) == 0
    return folder


# What an example names and the tiny model cannot have: another source, a shorter run, an output of its own.
INSTEAD = {"model.gguf": "checkpoint", "hf://HuggingFaceTB/SmolLM2-135M": "checkpoint"}


# A long one, and one whose output is another process's: tests/pv/cli/test_pv_command.py.
ELSEWHERE = ("apr demo", "apr contracts")


@pytest.mark.parametrize("name", [name for name in ["apr", *LEAVES] if name not in ELSEWHERE])
def test_the_examples_run(
    name: str,
    workshop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(workshop, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for words in examples(ALL[name]):
        arguments = [INSTEAD.get(word, word) for word in words[1:]]
        if arguments[0] in ("plan", "pretrain"):
            shutil.rmtree("run", ignore_errors=True)
            arguments += QUICK
        elif arguments[0] in ("import", "tokenize") and arguments[1] != "import-hf":
            arguments += ["--force"]
        assert entry(arguments) == 0, (words, capsys.readouterr().err)
        assert capsys.readouterr().out.strip()


def test_the_demos_example_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def told(folder: Path, num_steps: int, oracle: str, reporter: Any) -> dict[str, Any]:
        asked.update(folder=folder, num_steps=num_steps, oracle=oracle)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_command, "run_demo", told)
    for words in examples(ALL["apr demo"]):
        assert entry(words[1:]) == 2
        assert asked == {"folder": Path("demo"), "num_steps": 20, "oracle": "transformers"}
