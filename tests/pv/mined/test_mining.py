"""What is mined from a run: every kind, with its numbers, and nothing that the run does not bear out."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pv.errors import PathMissing
from pv.mined.errors import NoMetrics, RecordWrong, RunEmpty, SeveralMetrics
from pv.mined.judge import Held, judge
from pv.mined.kinds import KINDS, read_claim
from pv.mined.mine import mine
from pv.mined.run import Run, read_run

N = 40


def record(i: int) -> dict[str, Any]:
    """One line of a healthy run; its loss falls from 5 with some noise."""
    noise = random.Random(i).uniform(-0.1, 0.1)
    return {
        "step": i + 1, "loss": 5 - i / 20 + noise, "margin": noise, "tokens_seen": 512 * (i + 1), "world": 2,
        "gpu": None, "seen_again": 512 * (i + 1), "best": float(i // 3), "host": "a", "time": {"wall": 1.5 + noise},
    }  # fmt: skip


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


@pytest.fixture
def healthy(tmp_path: Path) -> Run:
    return read_run(write(tmp_path / "metrics.jsonl", [record(i) for i in range(N)]))


def texts(run: Run, least: int = 20) -> list[str]:
    return [claim.text for claim in mine(run, least).claims]


EXPECTED = {
    "present": "loss is never null",
    "constant": "world is 2",
    "finite": "loss is finite",
    "non-negative": "loss is never negative",
    "within": "loss is within [2.9, 5.1]",
    "increases": "step increases by 1",
    "monotone": "best never falls",
    "falls": "loss ends below its start",
    "equal": "seen_again equals tokens_seen",
    "ratio": "tokens_seen is 512 times step",
}
# For each kind, what a record of a run becomes that refutes its claim above.
BROKEN: dict[str, dict[str, Any]] = {
    "present": {"loss": None},
    "constant": {"world": 3},
    "finite": {"loss": float("nan")},
    "non-negative": {"loss": -0.5},
    "within": {"loss": 5.2},
    "increases": {"step": 31},
    "monotone": {"best": 2.0},
    "falls": {"loss": 100.0},
    "equal": {"seen_again": 1},
    "ratio": {"tokens_seen": 1},
}


def test_every_kind_is_mined(healthy: Run) -> None:
    mined = {claim.kind: claim for claim in mine(healthy).claims}
    assert set(mined) == set(EXPECTED) == {kind.kind for kind in KINDS}
    assert set(EXPECTED.values()) <= set(texts(healthy))


@pytest.mark.parametrize("kind", BROKEN)
def test_every_kind_is_refuted_by_one_record(healthy: Run, tmp_path: Path, kind: str) -> None:
    records = [record(i) for i in range(N)]
    records[-1] |= BROKEN[kind]
    broken = read_run(write(tmp_path / "broken.jsonl", records))
    claim = read_claim(EXPECTED[kind])
    assert judge(claim, healthy, 20).held is Held.HOLDS
    (breach,) = judge(claim, broken, 20).breaches
    assert breach.place.endswith(f"broken.jsonl:{N}")
    ((name, value),) = BROKEN[kind].items()
    assert (breach.field, str(breach.value)) == (name, str(value))
    assert EXPECTED[kind] not in texts(broken)


def test_what_follows_from_another_claim_is_left_out(healthy: Run) -> None:
    mined = texts(healthy)
    assert [text for text in mined if text.startswith("step ")] == [
        "step is never null",
        "step increases by 1",
    ]
    assert [text for text in mined if text.startswith("world ")] == ["world is never null", "world is 2"]
    assert not [text for text in mined if text.startswith("best is within")]
    relations = [claim.text for claim in mine(healthy).claims if len(claim.fields) == 2]
    assert relations == ["seen_again equals tokens_seen", "tokens_seen is 512 times step"]


def test_nested_numbers_have_names_with_dots(healthy: Run) -> None:
    assert "time.wall is within [1.4, 1.6]" in texts(healthy)


def test_a_field_that_is_not_mined_is_said_with_its_reason(tmp_path: Path) -> None:
    records = [
        {"step": i, "few": i if i < 19 else None, "mixed": i if i else "x", "name": "a"} for i in range(N)
    ]
    mined = mine(read_run(write(tmp_path / "m.jsonl", records)))
    assert set(mined.unclaimed) == {"few", "mixed"}
    assert {claim.field for claim in mined.claims} == {"step"}


def test_a_range_is_rounded_outward(tmp_path: Path) -> None:
    values = [-0.01234, 0.98765, *[0.5 - 0.01 * (i % 7) for i in range(N)]]
    run = read_run(write(tmp_path / "m.jsonl", [{"x": value} for value in values]))
    assert "x is within [-0.013, 0.99]" in texts(run)


def test_too_few_records_claim_nothing(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "m.jsonl", [record(i) for i in range(19)]))
    assert mine(run).claims == ()
    assert texts(run, 19)


def test_two_fields_that_seldom_meet_claim_nothing_together(tmp_path: Path) -> None:
    records = [{("a", "b")[i % 2]: i} for i in range(2 * N)] + [{"a": 100, "b": 200}, {"a": 101, "b": 202}]
    run = read_run(write(tmp_path / "m.jsonl", records))
    assert {claim.fields for claim in mine(run).claims} == {("a",), ("b",)}
    assert "b is 2 times a" in texts(run, 2)


def test_a_loss_that_has_not_fallen_beyond_its_noise_claims_no_fall(tmp_path: Path) -> None:
    losses = [2 + random.Random(i).uniform(-0.5, 0.5) for i in range(N)]
    run = read_run(write(tmp_path / "m.jsonl", [{"loss": loss} for loss in losses]))
    assert "loss ends below its start" not in texts(run)


def test_text_where_a_number_was_refutes(healthy: Run, tmp_path: Path) -> None:
    records = [record(i) for i in range(N)]
    records[7]["loss"] = "nan"
    broken = read_run(write(tmp_path / "b.jsonl", records))
    for text in ("loss is finite", "loss is never null", "loss ends below its start"):
        assert judge(read_claim(text), broken, 20).held is Held.REFUTED


def test_a_field_that_is_gone_is_refuted_or_not_known_and_never_holds(healthy: Run) -> None:
    assert judge(read_claim("gone is never null"), healthy, 20).held is Held.REFUTED
    for text in ("gone is finite", "gone never falls", "gone ends below its start", "gone equals step"):
        assert judge(read_claim(text), healthy, 20).held is Held.UNKNOWN


@given(st.lists(
    st.fixed_dictionaries({"a b": st.integers(-5, 5), "x": st.floats(-9, 9), 'q"': st.sampled_from([0.1, 7])}),
    min_size=20, max_size=30,
))  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_what_is_mined_holds_and_its_text_reads_back(tmp_path_factory, records: list[dict[str, Any]]) -> None:
    run = read_run(write(tmp_path_factory.mktemp("r") / "m.jsonl", records))
    claims = mine(run).claims
    assert {"a b", "x", 'q"'} == {claim.field for claim in claims if claim.kind == "present"}
    for claim in claims:
        assert read_claim(claim.text) == claim
        assert judge(claim, run, 20).held is Held.HOLDS


def test_records_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for i in range(N):
        (tmp_path / f"r{i:02}.json").write_text(json.dumps({"i": i, "deep": {"x": 3}}, indent=1))
    assert texts(read_run(tmp_path)) == [
        "i is never null",
        "i increases by 1",
        "deep.x is never null",
        "deep.x is 3",
    ]


def test_a_record_beside_the_lines_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", [record(i) for i in range(N)])
    (tmp_path / "record.json").write_text("{not even JSON")
    assert len(read_run(tmp_path)) == N


@pytest.mark.parametrize(
    ("line", "number"),
    [(b"{cut", 3), (b"[1]", 3), (b'{"a": 1, "a": 2}', 3), (b'{"a.b": 1, "a": {"b": 1}}', 3), (b'{"a": "\xff"}', 3),
     (b'{"a": ' + b"9" * 301 + b"}", 3), (b"[" * 100_000, 3)],
    ids=["cut", "list", "twice", "twice when flat", "not UTF-8", "digits", "deep"],
)  # fmt: skip
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: bytes, number: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1}\n\n' + line + b"\n")
    with pytest.raises(RecordWrong) as caught:
        read_run(path)
    assert caught.value.place == f"{path}:{number}"


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(PathMissing):
        read_run(tmp_path / "gone")
    with pytest.raises(NoMetrics):
        read_run(tmp_path)
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(RunEmpty):
        read_run(tmp_path)
    (tmp_path / "b.jsonl").write_text("\n")
    with pytest.raises(SeveralMetrics):
        read_run(tmp_path)


def test_numbers_beyond_floats_are_no_bug(tmp_path: Path) -> None:
    big = 10**299
    records = [
        {
            "a": big + i,
            "b": float(f"1e{290 + i % 18}"),
            "c": [float("inf"), float("nan"), 1.0][i % 3],
            "loss": 1e308,
        }
        for i in range(N)
    ]
    run = read_run(write(tmp_path / "m.jsonl", records))
    assert "a increases by 1" in texts(run)
    assert {claim.kind for claim in mine(run).claims if claim.field == "c"} == {"present"}
    assert judge(read_claim(f"loss is {big} times a"), run, 20).held is Held.REFUTED
