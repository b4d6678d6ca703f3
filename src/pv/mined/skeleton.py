"""A contract of what was mined from a run: it can be run, and is invalid until a person has said what is claimed."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from pv.contract.control import Edit
from pv.mined.breaking import breaking_edit
from pv.mined.claim import Claim
from pv.mined.mine import MIN_RECORDS
from pv.mined.run import Run
from pv.survey.scaffold import prefix_of

_HEAD = """\
# Mined by `pv infer` from {records} records of {run}, for review: what held once need not be what must hold.
# Take out what nobody claims, and fill in the rest; it is invalid until then: `pv validate` and `pv lint` say where.
# Each test counts the records that refute its claim; `pv infer {run} --check CLAIM` says which they are.
metadata:
  version: "0.1.0"
  created: {today}
  description: ""          # what must hold of such a run, in one sentence
  references: []           # where that is said: a page, a paper, an issue
  depends_on: []

proof_obligations:
"""
_OBLIGATION = """\
  - id: {id}
    type: invariant
    property: ""           # what must hold of {field}, and why
"""
_TEST = """\
  - id: {id}
    rule: {text}
    prediction: {prediction}
    if_fails: ""           # what it would mean for somebody who uses the run
    refutes: [{obligation}]
    runner: {{measure: [{argv}], op: "==", value: 0, unit: records}}
    timeout_s: 60
    subjects: [{subject}]
"""
_CONTROL = """\
    # The defect that must make it fail{such}
    control: {{edit: {file}, replace: "", by: ""}}
"""
_WORD = re.compile(r"[A-Za-z-][\w./-]*", re.ASCII)


def skeleton(
    name: str, run: Run, claims: Sequence[Claim], root: Path, today: date, least: int = MIN_RECORDS
) -> str:
    """The text of a skeleton.

    Args:
        name: of the contract, without .yaml.
        run: whose records bear the claims; inside of the project.
        claims: at least one.
        root: of the project.
        today: for the head.
        least: how many records must bear a claim.
    """
    prefix = prefix_of(name)
    fields = list(dict.fromkeys(claim.field for claim in claims))
    ids = {field: f"{prefix}-OBL-{i:03}" for i, field in enumerate(fields, 1)}
    named = _relative(run.path, root)
    subject = glob.escape(named) + ("/*.json" if run.path.is_dir() else "")
    head = _HEAD.format(records=len(run), run=_quoted(named), today=today.isoformat())
    obligations = "".join(_OBLIGATION.format(id=ids[field], field=json.dumps(field)) for field in fields)
    tests = [
        _test(f"{prefix}-FAL-{i:03}", ids[claim.field], claim, claim.support(run), named, subject, least)
        + _control(edit, run, root)
        for i, (claim, edit) in enumerate(zip(claims, _edits(run, claims), strict=True), 1)
    ]
    return f"{head}{obligations}\nfalsification_tests:\n" + "\n".join(tests)


def _test(id: str, obligation: str, claim: Claim, support: int, run: str, subject: str, least: int) -> str:
    words = ["python", "-m", "pv", "infer", run, "--count", claim.text]
    words += ["--min-lines", str(least)] if least != MIN_RECORDS else []
    return _TEST.format(
        id=id, text=_quoted(claim.text), prediction=_quoted(f"{claim.text}, over {support} records"),
        obligation=obligation, argv=", ".join(map(_quoted, words)), subject=_quoted(subject),
    )  # fmt: skip


def _control(edit: Edit | None, run: Run, root: Path) -> str:
    """The control, empty, with an edit that would do in a comment."""
    path = Path(edit.path) if edit is not None else run.places[0].path
    such = f", such as replace: {_quoted(edit.replace)}, by: {_quoted(edit.by)}" if edit is not None else ""
    return _CONTROL.format(such=such, file=_quoted(_relative(path, root)))


def _edits(run: Run, claims: Sequence[Claim]) -> Iterator[Edit | None]:
    texts = {path: path.read_bytes().decode("utf-8-sig") for path in {place.path for place in run.places}}
    return (breaking_edit(claim, run, texts) for claim in claims)


def _relative(path: Path, root: Path) -> str:
    return path.resolve().relative_to(root.resolve()).as_posix()


def _quoted(text: str) -> str:
    """A text as YAML: bare where it is a plain word, in single quotes where it has double ones."""
    if _WORD.fullmatch(text) and text not in ("null", "true", "false"):
        return text
    if '"' in text and text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return json.dumps(text, ensure_ascii=not text.isprintable())
