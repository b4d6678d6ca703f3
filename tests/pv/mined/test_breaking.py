"""The edit that is suggested as a control stands once in the file, and refutes the claim."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from pv.mined.breaking import breaking_edit
from pv.mined.judge import Held, judge
from pv.mined.mine import mine
from pv.mined.run import read_run


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":"), ("  ,", " :  ")])
def test_an_edit_for_every_claim(tmp_path: Path, separators: tuple[str, str]) -> None:
    records = [
        {"step": i, "world": 2, "epoch": i // 10, "train": {"loss": 4 - i / 20 + random.Random(i).random() / 9},
         "seen": 512 * i, "again": 512 * i, 'q"uote': 0.5 if i % 2 else -1e-9}
        for i in range(1, 41)
    ]  # fmt: skip
    path = tmp_path / "metrics.jsonl"
    text = "".join(json.dumps(record, separators=separators) + "\r\n" for record in records)
    path.write_bytes(text.encode())
    run = read_run(path)
    claims = mine(run).claims
    assert len({claim.kind for claim in claims}) == 10
    for claim in claims:
        edit = breaking_edit(claim, run, {path: text})
        if '"' in claim.field:  # JSON spells it with an escape, where no edit is looked for
            assert edit is None
            continue
        assert edit is not None, claim.text
        assert text.count(edit.replace) == 1
        broken = tmp_path / "broken.jsonl"
        broken.write_bytes(text.replace(edit.replace, edit.by).encode())
        assert judge(claim, read_run(broken), 20).held is Held.REFUTED


def test_no_edit_where_none_is_certain(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    text = "".join(json.dumps({"a": {"x": i}, "b": {"x": i}}) + "\n" for i in range(1, 41))
    path.write_text(text)
    run = read_run(path)
    assert {breaking_edit(claim, run, {path: text}) for claim in mine(run).claims} == {None}
