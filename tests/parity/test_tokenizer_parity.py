"""Token ids of real checkpoints, against two engines that are not ours.

transformers: SmolLM2's GGUF tokenizer with the published splitting (transformers' own GGUF path drops the
digit step), and the published class `Qwen2Tokenizer` over the file's vocabulary and merges. llama.cpp: the
golden ids.
"""

from __future__ import annotations

import functools
import json
import random
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from transformers import AutoTokenizer, Qwen2Tokenizer

from apr.convert.gguf_tokenizer import definition_from_gguf
from apr.tokenizer.engine import TextTokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "smollm2_ids.json"
MAX_FILES, MAX_CHARACTERS, NUM_STRINGS = 2_000, 12_000, 3_000
_DIGIT_STEP = pre_tokenizers.Digits(individual_digits=True)
_WORD_STEP = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)

RANGES = (
    *[(0x20, 0x7F)] * 6,
    (0x00, 0x20),
    (0xA0, 0x250),
    (0x300, 0x370),  # combining marks
    (0x370, 0x700),
    (0x900, 0xD80),
    (0xE00, 0xE80),
    (0x1100, 0x1200),  # Hangul letters, which NFC composes
    (0x1E00, 0x2000),
    (0x2000, 0x2070),
    (0x2150, 0x2190),  # fractions and Roman numerals: numbers that are no digits
    (0x2460, 0x2500),
    (0x3000, 0x3100),
    (0x4E00, 0xA000),
    (0xAC00, 0xD7A4),
    (0xE000, 0xF900),
    (0xFF00, 0xFF60),
    (0x10000, 0x11000),
    (0x1D400, 0x1D800),
    (0x1F300, 0x1F700),
    (0x40000, 0x40100),  # unassigned
    (0x100000, 0x100100),
)
FRAGMENTS = (
    *(
        "  12",
        "1234567",
        "0x1F",
        "  3.14\n",
        "x=1",
        "\n\n\n",
        "   ",
        "\t\t",
        "\r\n",
        "\x85",
        "\u2028",
        "\u3000",
    ),
    *(" 's", "'LL", "don't", "DON'T", "\u017f's", "'\u017f", "\u0130", "e\u0301", "\u1100\u1161", "\u212b"),
    *("\ufb01", "\u00a0", "\u200d", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea"),
    *("<|im_start|>", "<|endoftext|>", "<|im_end|", "<tool_call>", "<tool_call>\u0338", "<repo_name>"),
)


@dataclass(frozen=True)
class Pair:
    """Our tokenizer, the reference, and the reference with its split changed."""

    ours: TextTokenizer
    reference: Tokenizer
    spoilt: Tokenizer


@pytest.fixture(scope="module")
def stdlib_texts() -> list[str]:
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))[:MAX_FILES]
    return [file.read_bytes().decode(errors="replace")[:MAX_CHARACTERS] for file in files]


@pytest.fixture(scope="module")
def random_texts() -> list[str]:
    rng = random.Random(20_240)

    def part() -> str:
        if rng.random() < 0.3:
            return rng.choice(FRAGMENTS)
        low, high = rng.choice(RANGES)
        return "".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 4)))

    return ["".join(part() for _ in range(rng.randint(1, 30))) for _ in range(NUM_STRINGS)]


@functools.cache  # reading half a gigabyte takes seconds
def tokenizer_fields(path: Path) -> dict[str, Any]:
    reader = gguf.GGUFReader(path)
    return {
        name: field.contents()
        for name, field in reader.fields.items()
        if name.startswith(("tokenizer.ggml.", "general.architecture"))
    }


def smollm_pair(path: Path) -> Pair:
    theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    reference = theirs.backend_tokenizer
    reference.pre_tokenizer = pre_tokenizers.Sequence([_DIGIT_STEP, _WORD_STEP])
    spoilt = Tokenizer.from_str(reference.to_str())
    spoilt.pre_tokenizer = _WORD_STEP
    return Pair(TextTokenizer(definition_from_gguf(tokenizer_fields(path))), reference, spoilt)


def qwen_pair(path: Path) -> Pair:
    fields = tokenizer_fields(path)
    tokens = list(enumerate(fields["tokenizer.ggml.tokens"]))
    kinds = fields["tokenizer.ggml.token_type"]
    theirs = Qwen2Tokenizer(
        vocab={text: token_id for token_id, text in tokens if kinds[token_id] == 1},
        merges=[tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]],
    )
    added = [(text, kinds[token_id] == 3) for token_id, text in tokens if kinds[token_id] in (3, 4)]
    theirs.add_tokens([AddedToken(text, normalized=False, special=special) for text, special in added])
    reference = theirs.backend_tokenizer
    spoilt = Tokenizer.from_str(reference.to_str())
    spoilt.pre_tokenizer = _WORD_STEP
    return Pair(TextTokenizer(definition_from_gguf(fields)), reference, spoilt)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("smollm2_gguf", smollm_pair), marks=pytest.mark.smollm, id="SmolLM2"),
        pytest.param(("qwen_gguf", qwen_pair), marks=pytest.mark.live, id="Qwen2.5"),
    ],
)
def pair(request: pytest.FixtureRequest) -> Pair:
    fixture, make = request.param
    return make(request.getfixturevalue(fixture))


def differing(reference: Tokenizer, ours: TextTokenizer, texts: list[str]) -> list[int]:
    """Places of the texts whose ids differ."""
    theirs = reference.encode_batch_fast(texts, add_special_tokens=False)
    rows = enumerate(zip(theirs, ours.encode_batch(texts), strict=True))
    return [index for index, (left, right) in rows if left.ids != right]


def test_the_vocabulary_is_the_references(pair: Pair) -> None:
    assert pair.ours.vocab_size == pair.reference.get_vocab_size(with_added_tokens=True)
    assert pair.ours.vocab_size == pair.ours.max_id + 1


def test_ids_of_source_code(pair: Pair, stdlib_texts: list[str]) -> None:
    assert len(stdlib_texts) > 1_000
    assert differing(pair.reference, pair.ours, stdlib_texts) == []


def test_ids_of_random_unicode(pair: Pair, random_texts: list[str]) -> None:
    assert differing(pair.reference, pair.ours, random_texts) == []


def test_another_split_shows_in_the_comparison(
    pair: Pair, stdlib_texts: list[str], random_texts: list[str]
) -> None:
    assert differing(pair.spoilt, pair.ours, stdlib_texts[:500])
    assert differing(pair.spoilt, pair.ours, random_texts)


@pytest.mark.parametrize(
    ("fixture", "vocab_size", "end_of_text", "eos"),
    [
        pytest.param("smollm2_gguf", 49_152, 0, 2, marks=pytest.mark.smollm),
        pytest.param("qwen_gguf", 151_665, 151_643, 151_645, marks=pytest.mark.live),
    ],
)
def test_published_figures(
    request: pytest.FixtureRequest, fixture: str, vocab_size: int, end_of_text: int, eos: int
) -> None:
    definition = definition_from_gguf(tokenizer_fields(request.getfixturevalue(fixture)))
    assert TextTokenizer(definition).vocab_size == vocab_size
    assert (definition.end_of_text_id, definition.eos_token_id) == (end_of_text, eos)


@pytest.mark.smollm
def test_golden_ids_of_llama_cpp(smollm2_gguf: Path) -> None:
    cases = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
    ours = TextTokenizer(definition_from_gguf(tokenizer_fields(smollm2_gguf)))
    assert {case["text"]: ours.encode(case["text"]) for case in cases} == {
        case["text"]: case["ids"] for case in cases
    }
    assert len(cases) >= 30
