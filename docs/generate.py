"""Write the pages of docs/ that follow from the program. --check fails on drift."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from invariants import INVARIANTS, defects
from silent_failures import NOT_PLANTED, WENT_WRONG

from apr.base.errors import known_errors
from apr.cli.explain_command import describe
from apr.cli.main import apr
from apr.cli.pretrain_command import pretrain_command
from apr.stepzero.faults.catalogue import FAULTS
from apr.stepzero.registry import GATES
from apr.train.settings import SETTINGS
from apr.workflows.falsifying import catalogue
from pv.cli.main import pv
from pv.errors import known_errors as known_pv_errors
from pv.report.error_page import error_means, error_title
from pv.report.page import rule_page
from pv.rules.table import all_rules

DOCS = Path(__file__).parent
_NOTE = "<!-- made by docs/generate.py; do not edit -->\n\n"
_WIDTH = 100
_RUN_FILES = """# Run files

`apr pretrain --config run.toml` and `apr plan --config run.toml` take a run from a TOML file:

```toml
[model]
init = "model.apr"

[data]
dataset = "shards"
batch_size = 2
seq_length = 512

[optimizer]
lr = 5e-5
betas = [0.9, 0.95]

[run]
run_dir = "run"
num_steps = 500
```

A path in the file is relative to the file. `--set optimizer.lr=1e-5` changes one setting for one run; words and
paths need no quotes there, and its paths are relative to where you are. An option wins over `--set`, `--set` over the
file, the file over the mode, the mode over the default; `apr plan --why` and `plan.json` say of each value where it
came from. A key that is not in the table is refused, with the nearest that is.

"""


def commands(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    """Every command below `command`, as (full name, help text), in the order of --help."""
    context = click.Context(
        command, info_name=name, parent=parent, max_content_width=_WIDTH, terminal_width=_WIDTH
    )
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from commands(found, child, context)


def reference_page() -> str:
    """The help of every command."""
    parts = [
        f"## {name}\n\n```text\n{text}\n```\n"
        for program in (apr, pv)
        for name, text in commands(program, str(program.name), None)
    ]
    return _NOTE + "# Commands\n\n" + "\n".join(parts)


def rules_page() -> str:
    """Every rule of pv with its examples."""
    head = (
        "# Rules of pv\n\n`pv explain RULE` prints one of these. An error makes a contract invalid, a "
        "warning does not. Examples show what differs from a contract that is valid otherwise.\n\n"
    )
    rows = [(f"[{rule.id}](#{rule.id.lower()}-{rule.name})", rule.name, rule.title) for rule in all_rules()]
    listed = "| rule | name | finds |\n|---|---|---|\n" + _table(rows)
    return _NOTE + head + listed + "\n" + "\n".join(rule_page(rule) for rule in all_rules())


def settings_page() -> str:
    """Every setting of a run file, with the option that sets the same, what it takes and what it is for."""
    options = {item.name: item for item in pretrain_command.params if isinstance(item, click.Option)}
    rows = [
        (f"`{setting.key}`", f"`{setting.option}`", setting.kind.says, options[setting.field].help or "")
        for setting in SETTINGS.values()
    ]
    return _NOTE + _RUN_FILES + "| setting | option | takes | meaning |\n|---|---|---|---|\n" + _table(rows)


def errors_page() -> str:
    """Every error id with what it says and what to do."""
    head = (
        "# Errors\n\n`apr explain ID` prints one of these. Exit code 1: the input was judged and refused; "
        "2: there is no answer (usage, a missing file, a full disk).\n\n"
        "| id | what happened | what it says | what to do | exit |\n|---|---|---|---|---|\n"
    )
    rows = [describe(kind) for kind in known_errors().values() if kind.id != "APR000"]
    cells = [(row["id"], row["summary"], row["text"], row["help"], str(row["exit_code"])) for row in rows]
    return _NOTE + head + _table(cells) + _pv_errors()


def _pv_errors() -> str:
    """The errors of pv, which are no findings: a rule's page is in docs/rules.md."""
    head = (
        "\n## Errors of pv\n\n`pv explain ID` prints one of these; what it finds in contracts is in "
        "[rules.md](rules.md).\n\n"
        "| id | what happened | what it means | what it says | what to do | exit |\n|---|---|---|---|---|---|\n"
    )
    kinds = known_pv_errors().values()
    return head + _table(
        [(k.id, error_title(k), error_means(k), k.text, k.help, str(k.exit_code)) for k in kinds]
    )


def gates_page() -> str:
    """Every gate with what it asks and the errors that speak for it, and every fault that is planted."""
    head = (
        "# Gates and faults\n\nWhat must hold before step 1, by the part of a run that it is about. A gate whose "
        "question can be answered while a file is read says no by an error of its own; the others by APR502.\n\n"
        "| gate | judged | asks | says no as |\n|---|---|---|---|\n"
    )
    rows = [(gate.id, gate.stage, gate.asks, _ranges(gate.errors) or "APR502") for gate in GATES]
    listed = catalogue()
    told = (
        f"\n## Faults\n\n`apr falsify MODEL.apr` plants these {len(listed['faults'])} faults (those that the "
        f"model can carry), each of which imitates entries of docs/silent-failures.md, and runs "
        f"{len(listed['controls'])} healthy variations.\n\n"
        "| fault | what is planted | imitates | must be caught by | quick |\n|---|---|---|---|---|\n"
    )
    faults = [
        (f["id"], f["says"], ", ".join(f["imitates"]), f["gate"], "yes" if f["quick"] else "")
        for f in listed["faults"]
    ]
    controls = [(c["id"], c["says"], "yes" if c["quick"] else "") for c in listed["controls"]]
    last = "\n## Healthy variations\n\n| run | what differs | quick |\n|---|---|---|\n"
    return _NOTE + head + _table(rows) + told + _table(faults) + last + _table(controls)


def failures_page() -> str:
    """Every silent failure with the faults that imitate it, or why none does."""
    head = (
        "# Silent failures\n\nWhat has gone wrong in training from a checkpoint without anything stopping, in trainers "
        "of several makers. For each, what `apr falsify` plants (docs/gates.md), or what judges it instead.\n\n"
        "| | what went wrong | planted as |\n|---|---|---|\n"
    )
    planted: dict[str, list[str]] = {}
    for fault in FAULTS:
        for name in fault.imitates:
            planted.setdefault(name, []).append(fault.id)
    assert set(planted) <= set(WENT_WRONG), "a fault imitates what is not in the list"
    rows = [
        (name, told, _first_of(planted[name]) if name in planted else f"not planted: {NOT_PLANTED[name]}")
        for name, told in WENT_WRONG.items()
    ]
    return _NOTE + head + _table(rows)


def invariants_page() -> str:
    """Every invariant of the training loop, with its planted defects and its tests."""
    head = (
        "# Invariants of the training loop\n\nEach has a falsifier, `test_it_holds` in "
        "tests/contracts/test_training_loop_pretrain.py, which passes; `pv falsify` plants each of these defects, "
        "as contracts/training-loop-pretrain-v1.yaml has them, and demands that the falsifier then fails for it. "
        "Not numbered in the specification: accumulation and clipping.\n\n"
        "| invariant | says | planted defects, each caught | further tests, below tests/ |\n|---|---|---|---|\n"
    )
    planted = defects()
    rows = [
        (name, item.says, "; ".join(planted[name]), ", ".join(f"`{test}`" for test in item.more))
        for name, item in INVARIANTS.items()
    ]
    return _NOTE + head + _table(rows)


def _first_of(ids: list[str]) -> str:
    return ", ".join(ids[:6]) + (f" and {len(ids) - 6} more" if len(ids) > 6 else "")


def _ranges(errors: tuple[str, ...]) -> str:
    """Error ids that exist, in runs."""
    known = [int(e.removeprefix("APR")) for e in errors if e in known_errors()]
    runs: list[list[int]] = []
    for number in known:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"APR{a:03d}" if a == b else f"APR{a:03d} to APR{b:03d}" for a, b in runs)


def _table(rows: list[tuple[str, ...]]) -> str:
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def main() -> int:
    """Write the pages, or with --check compare them; returns the exit code."""
    pages = {"reference.md": reference_page(), "errors.md": errors_page(), "gates.md": gates_page()}
    pages |= {"silent-failures.md": failures_page(), "settings.md": settings_page()}
    pages |= {"invariants.md": invariants_page(), "rules.md": rules_page()}
    check = "--check" in sys.argv[1:]
    for name, text in pages.items():
        path = DOCS / name
        if check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            print(f"docs/{name} is not what the program says; run `make format`", file=sys.stderr)
            return 1
        if not check:
            path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
