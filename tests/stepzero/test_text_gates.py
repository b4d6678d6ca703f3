"""The tokens as text: what the shards hold, against the tokenizer and against what text is like."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.stepzero.gate import GateResult
from apr.stepzero.text import (
    ENTROPY_BITS,
    MIN_DISTINCT,
    SAMPLE_TOKENS,
    eos_gate,
    probe_gate,
    sample_gate,
    statistics_gate,
)
from apr.tokenizer.engine import TextTokenizer
from tiny import make_tokenizer, words

EOS = 0


@pytest.fixture(scope="module")
def engine() -> TextTokenizer:
    return TextTokenizer(make_tokenizer())


# --- tokens.sample -------------------------------------------------------------------------------


def document(engine: TextTokenizer, number: int, *more: int) -> np.ndarray:
    """The ids of a document as shards hold them; more than SAMPLE_TOKENS are cut."""
    return np.array([*engine.encode(words(number)), *more, EOS], dtype=np.uint32)[:SAMPLE_TOKENS]


def sample(engine: TextTokenizer, documents: Sequence[np.ndarray], **changes: Any) -> GateResult:
    functions = {"encode": engine.encode, "decode": engine.decode, "normalize": engine.normalize, **changes}
    return sample_gate(documents, **functions, eos_id=EOS)


def test_documents_that_come_back_are_a_yes(engine: TextTokenizer) -> None:
    documents = [document(engine, number) for number in range(5)]
    gate = sample(engine, documents)
    assert (gate.id, gate.verdict, gate.figure, gate.limit) == ("tokens.sample", "yes", 0, 0)
    assert gate.facts == {"num_documents": 5, "num_tokens": sum(len(item) - 1 for item in documents)}


def letters(engine: TextTokenizer, ids: Sequence[int]) -> list[int]:
    """The same text without a single merge."""
    return [token for letter in engine.decode(ids) for token in engine.encode(letter)]


def test_a_cut_in_a_word_is_no_defect(engine: TextTokenizer) -> None:
    """The last ids of a document that was cut may be encoded otherwise; those before may not."""
    ids = engine.encode("".join(words(number) for number in range(9)))

    def cut(kept: int) -> np.ndarray:
        return np.array([*ids[:kept], *letters(engine, ids[kept:])][:SAMPLE_TOKENS], dtype=np.uint32)

    gate = sample(engine, [cut(SAMPLE_TOKENS - 30)])
    assert (gate.verdict, gate.facts["num_tokens"]) == ("yes", SAMPLE_TOKENS - 32)
    assert sample(engine, [cut(SAMPLE_TOKENS - 40)]).verdict == "no"
    assert sample(engine, [cut(SAMPLE_TOKENS - 30)[:-1]]).verdict == "no"  # a whole document


SPOILT: dict[str, Callable[[TextTokenizer, list[int]], list[int]]] = {
    "one word letter by letter": lambda engine, ids: [*letters(engine, ids[:2]), *ids[2:]],
    "the end letter by letter": lambda engine, ids: [*ids[:-3], *letters(engine, ids[-3:])],
    "everything letter by letter": letters,
    "a tokenizer with fewer merges": lambda engine, ids: TextTokenizer(make_tokenizer(290)).encode(
        engine.decode(ids)
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_ids_that_this_tokenizer_would_not_give_are_a_no(engine: TextTokenizer, case: str) -> None:
    whole = [document(engine, number) for number in range(3)]
    ids = engine.encode(words(1)[:120])
    wrong = SPOILT[case](engine, ids)
    gate = sample(engine, [whole[0], np.array([*wrong, EOS], dtype=np.uint32), whole[2]])
    assert (gate.verdict, gate.figure) == ("no", 1)
    assert "document 1" in gate.cause


def test_text_that_does_not_come_back_is_a_no(engine: TextTokenizer) -> None:
    gate = sample(engine, [document(engine, 1), document(engine, 2)], normalize=str.upper)
    assert (gate.verdict, gate.figure) == ("no", 2)
    assert "same text" in gate.cause


@pytest.mark.parametrize("documents", [[], [np.array([EOS], dtype=np.uint32)]])
def test_a_sample_of_nothing_proves_nothing(engine: TextTokenizer, documents: list[np.ndarray]) -> None:
    gate = sample(engine, documents)
    assert (gate.verdict, gate.figure) == ("no", 0)
    assert "no token" in gate.cause


# --- tokens.probe --------------------------------------------------------------------------------


def probe(**changes: Any) -> GateResult:
    given: dict[str, Any] = {"recorded": [5, 6, 7, 8], "encoded": [5, 6, 7, 8], "text": "some text"}
    return probe_gate(**{**given, "restored": "some text", "expected": "some text", **changes})


def test_the_recorded_ids_are_a_yes() -> None:
    gate = probe()
    assert (gate.id, gate.verdict, gate.figure, gate.limit) == ("tokens.probe", "yes", 0, 0)
    assert gate.facts == {"num_tokens": 4, "num_characters": 9}


def test_a_file_without_a_reference_leaves_it_open() -> None:
    gate = probe(recorded=None)
    assert (gate.verdict, gate.figure) == ("not known", None)
    assert (
        probe(recorded=None, restored="some texts").verdict == "no"
    )  # the round trip is judged all the same


@pytest.mark.parametrize(
    ("encoded", "differing"),
    [
        ([5, 6, 7, 9], 1),
        ([6, 7, 8, 5], 4),
        ([5, 6, 7], 1),
        ([5, 6, 7, 8, 9], 1),
        ([], 4),
        ([1, 5, 6, 7, 8], 5),
    ],
)
def test_other_ids_are_counted(encoded: list[int], differing: int) -> None:
    gate = probe(encoded=encoded)
    assert (gate.verdict, gate.figure) == ("no", differing)
    assert gate.cause.startswith(f"{differing} of 4 ids")


@pytest.mark.parametrize(
    ("restored", "at"), [("some tixt", 6), ("Some text", 0), ("some tex", 8), ("some text ", 9), ("", 0)]
)
def test_a_text_that_does_not_come_back_is_shown_where(restored: str, at: int) -> None:
    gate = probe(restored=restored)
    assert (gate.verdict, gate.figure, gate.limit) == ("no", at, 9)
    assert gate.cause


# --- tokens.statistics ---------------------------------------------------------------------------


def uniform(distinct: int, each: int = 4, vocab_size: int = 1 << 15) -> np.ndarray:
    counts = np.zeros(vocab_size, dtype=np.int64)
    counts[:distinct] = each
    return counts


def judge(counts: np.ndarray, unknown_id: int | None = None) -> GateResult:
    gate = statistics_gate(counts, unknown_id=unknown_id)
    assert gate.id == "tokens.statistics"
    assert bool(gate.cause) is (gate.verdict == "no")
    return gate


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60).filter(any))
def test_the_figure_is_the_entropy(counts: list[int]) -> None:
    """Of every distribution, and the verdict follows from it."""
    gate = judge(np.array(counts))
    total, some = sum(counts), [count for count in counts if count]
    bits = -math.fsum(count / total * math.log2(count / total) for count in some)
    assert gate.figure == pytest.approx(bits, abs=1e-9)
    assert gate.facts["entropy_nats"] == pytest.approx(bits * math.log(2), abs=1e-9)
    assert (gate.facts["num_tokens"], gate.facts["num_distinct"]) == (total, len(some))
    inside = ENTROPY_BITS[0] < bits < ENTROPY_BITS[1]
    if abs(bits - ENTROPY_BITS[0]) > 1e-6:
        assert (gate.verdict == "yes") is (inside and len(some) >= MIN_DISTINCT)


@pytest.mark.parametrize(
    ("counts", "word"),
    [
        (uniform(1), "over and over"),
        (np.array([10**9, 10, 5, *[1] * 20]), "over and over"),  # 0.001 bits and less
        (uniform(3), "over and over"),
        (uniform(12_000), "no text"),
        (uniform(15), "15 different"),
        (np.zeros(100, dtype=np.int64), "0 different"),
    ],
)
def test_what_no_text_is_like_is_a_no(counts: np.ndarray, word: str) -> None:
    gate = judge(counts)
    assert gate.verdict == "no"
    assert word in gate.cause


@pytest.mark.parametrize(("unknown", "verdict"), [(0, "yes"), (6400, "yes"), (6401, "no"), (60_000, "no")])
def test_tokens_for_what_cannot_be_spelled_are_few(unknown: int, verdict: str) -> None:
    counts = uniform(64, each=10_000)
    counts[:8] -= unknown // 8
    counts[8] -= unknown % 8
    counts[70] = unknown
    gate = judge(counts, unknown_id=70)
    assert gate.facts["unknown_share"] == unknown / 640_000
    assert gate.verdict == verdict
    assert judge(counts, unknown_id=None).verdict == "yes"


# --- tokens.eos ----------------------------------------------------------------------------------


def end(**changes: Any) -> GateResult:
    given: dict[str, Any] = {"policy": "after", "manifest_eos": 3, "tokenizer_eos": 3, "ends": [3, 3, 3]}
    return eos_gate(**{**given, "num_eos": 4, "num_documents": 4, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_eos": 5},  # a document may hold one itself
        {"policy": "between", "num_eos": 3},
        {"ends": [], "num_eos": 1, "num_documents": 1},
        {"policy": "between", "ends": [], "num_eos": 0, "num_documents": 1},
    ],
)
def test_separated_documents_are_a_yes(changes: dict[str, Any]) -> None:
    gate = end(**changes)
    assert (gate.id, gate.verdict, gate.figure, gate.limit, gate.cause) == ("tokens.eos", "yes", 3, 3, "")


def test_documents_without_a_separator_leave_it_open() -> None:
    assert end(policy="none", ends=[1, 2, 9], num_eos=0, manifest_eos=None).verdict == "not known"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"tokenizer_eos": 4}, "made with the end-of-text id 3"),
        ({"manifest_eos": None}, "made with the end-of-text id None"),
        ({"tokenizer_eos": None}, "tokenizer's is None"),
        ({"ends": [3, 7, 3]}, "1 of 3"),
        ({"ends": [1, 1, 1], "num_eos": 0}, "3 of 3"),
        ({"num_eos": 3}, "occurs 3 times"),
        ({"policy": "between", "num_eos": 2}, "occurs 2 times"),
    ],
)
def test_documents_that_run_into_each_other_are_a_no(changes: dict[str, Any], word: str) -> None:
    gate = end(**changes)
    assert gate.verdict == "no"
    assert word in gate.cause
