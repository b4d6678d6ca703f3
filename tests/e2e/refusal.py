"""What every refusal owes its user, checked in one place.

One sentence with the id, the value, the limit and what to do; exit code 1 or 2; nothing half-written; never a
traceback; with --format json exactly one object on stdout. APR_REFUSALS=FILE collects the sentences, to be read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from apr.base.errors import AprError, known_errors
from apr.cli.main import entry
from command import Outcome
from tiny import QUICK

# What a run that was refused after its directory was made leaves there: why, and no weights.
RECORDED = ("run", "run/inputs.json", "run/log.txt", "run/plan.json", "run/record.json")
# A field that was not filled in, a value that is Python's, two marks or two spaces in a row, a word twice.
_SLIPS = re.compile(r"\{\w*\}|\bNone\b|(?<! )[.;,]; |\s\s|\b([A-Za-z]+) \1\b|[.\s]$")
JUDGED = ("run/certificate.json", *RECORDED)


def call(*arguments: object) -> Outcome:
    """Run the real command line in this process, where torch is imported already."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr), one_thread():
        code = entry([str(argument) for argument in arguments])
    return Outcome(code, stdout.getvalue(), stderr.getvalue())


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads that wait for each other over a tiny model take ten times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train(init: object, dataset: object, run_dir: object, *more: object) -> tuple[object, ...]:
    """The arguments of a run that would take a second."""
    return ("pretrain", "--init", init, "--dataset", dataset, "--run-dir", run_dir, *QUICK, *more)


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder: what it is, and the digest of its content."""
    return {path.relative_to(folder).as_posix(): _state(path) for path in sorted(folder.rglob("*"))}


def _state(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    return "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def refused(
    *arguments: object,
    error_id: str,
    folder: Path,
    says: Mapping[str, object] | None = None,
    leaves: Iterable[str] = (),
    run: Callable[..., Outcome] = call,
) -> dict[str, Any]:
    """Run a command that must be refused, and check everything that a refusal owes.

    `says` are facts of the error that must hold these texts; `leaves` are the only new paths below `folder`.
    """
    before = snapshot(folder)
    outcome = run(*arguments, "--format", "json")
    document = check_outcome(outcome, error_id)
    after = snapshot(folder)
    assert sorted(set(after) - set(before)) == sorted(leaves)
    assert {name: after.get(name) for name in before} == before
    found = {name: str(document["facts"][name]) for name in says or {}}
    assert all(str(text) in found[name] for name, text in (says or {}).items()), found
    for name in leaves:
        if name.endswith("record.json"):
            check_record(folder / name, error_id)
    return document


def check_outcome(outcome: Outcome, error_id: str) -> dict[str, Any]:
    """Check exit code, streams and sentence of a refusal made with --format json; returns its error object."""
    assert "Traceback" not in outcome.stderr, outcome.stderr
    assert outcome.code in (1, 2), (outcome.code, outcome.stdout[:300], outcome.stderr[-600:])
    assert outcome.stdout.count("\n") == 1, outcome.stdout  # one object, on one line
    document: dict[str, Any] = outcome.json["error"]
    assert document["id"] == error_id, outcome.stderr
    assert sorted(document) == ["facts", "help", "id", "message"]
    assert outcome.code == known_errors()[error_id].exit_code
    check_sentence(outcome.stderr, document)
    return document


def check_sentence(stderr: str, document: Mapping[str, Any]) -> None:
    """The last line on stderr is the sentence, once, in one piece."""
    sentence = f"{document['id']}: {document['message']}; {document['help']}"
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert lines[-1] == f"apr: {sentence}"
    assert sum(line.startswith("apr: ") for line in lines) == 1
    assert sentence.count(document["id"]) == 1, sentence
    assert document["message"].strip()
    assert document["help"].strip()
    assert not _SLIPS.search(sentence), sentence
    assert len(sentence) < 1_200, sentence
    if path := os.environ.get("APR_REFUSALS"):
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(sentence + "\n")


def check_record(path: Path, error_id: str) -> None:
    """The run directory says why there is nothing to train on from."""
    record = json.loads(path.read_bytes())
    assert (record["outcome"], record["steps"], record["checkpoints"]) == ("REFUSED", 0, [])
    assert record["error"]["id"] == error_id


def every_error() -> dict[str, type[AprError]]:
    """Every error of every room, by id."""
    assert call("explain").code == 0  # imports them all
    return known_errors()
