"""Documents that resemble an earlier one are left out, and only those, held against all pairs of a real corpus."""

from __future__ import annotations

import itertools
import os
import random
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.base.errors import BadOption, Interrupted
from apr.data import band_index, encode, near_index
from apr.data.band_index import BandIndex
from apr.data.encode import encode_corpus, encode_part
from apr.data.encode_options import EncodeOptions
from apr.data.errors import DedupInParts, EncodingDiffers, ManifestFieldMissing, ManifestValueBad
from apr.data.manifest import parse_manifest, read_manifest
from apr.data.minhash import LIBRARY
from apr.data.sources import Source
from apr.data.spans import Portion
from byte_tokenizer import ByteTokenizer
from deduplicated import listed, reference_shingles, texts_of, write_source

OPTIONS = EncodeOptions(shard_tokens=20_000, val_fraction=0.3, dedup="near")
EDITS = (
    0.003,
    0.01,
    0.02,
    0.03,
    0.05,
    0.1,
)  # shares of words that are dropped, replaced or preceded by another


def edited(text: str, share: float, draw: random.Random) -> str:
    words = []
    for word in text.split(" "):
        fate = draw.random()
        if fate >= share / 3:
            words += [f"w{draw.randrange(1000)}"] if fate < share else []
            words += [] if fate < share * 2 / 3 else [word]
    return " ".join(words)


def real_texts(count: int) -> list[str]:
    """Beginnings of modules of the standard library, ASCII only, all of them different."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts = (path.read_bytes()[:3000].decode("ascii", "ignore") for path in sorted(folder.glob("*.py")))
    return list(dict.fromkeys(text for text in texts if len(text) > 500))[:count]


def similarity(first: str, second: str) -> float:
    one, two = reference_shingles(first), reference_shingles(second)
    return len(one & two) / len(one | two)


@pytest.fixture(scope="module")
def corpus():
    """40 texts and each with six edits, in a mixed order."""
    draw = random.Random(5)
    texts = real_texts(40)
    texts += [edited(text, share, draw) for text in texts for share in EDITS]
    draw.shuffle(texts)
    return list(dict.fromkeys(texts))


@pytest.fixture(scope="module")
def made(tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp("near")
    encode_corpus([write_source(folder / "text", corpus)], ByteTokenizer(), folder / "out", options=OPTIONS)
    return folder


@pytest.fixture(scope="module")
def crowded(made):
    """The same corpus, compared with one candidate a document, as if each had too many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_index, "_MOST_COMPARED", 1)
        found = encode_corpus([made / "text"], ByteTokenizer(), made / "crowded", options=OPTIONS).train.dedup
    assert found is not None
    assert found["near"]["num_crowded"] > 10
    return made / "crowded"


def test_only_what_resembles_is_left_out_and_hardly_any_of_it_stays(made, corpus):
    """Every pair of what is left is compared: on one side or on both, none is over the threshold."""
    rows = listed(made / "out")
    assert 100 < len(rows) < len(corpus) - 60
    order = {str(path): number for number, path in enumerate(sorted((made / "text").iterdir()))}
    left_out = {str(row["document"]) for row in rows}
    for row in rows:
        copy, kept = str(row["document"]), str(row["resembles"])
        found = similarity(corpus[order[copy]], corpus[order[kept]])
        assert found >= 0.8
        assert row["similarity"] == pytest.approx(found, abs=2e-4)
        assert order[kept] < order[copy]
        assert kept not in left_out
    kept_texts = [text for path, text in zip(sorted(order), corpus, strict=True) if path not in left_out]
    assert sorted(texts_of(made / "out") + texts_of(made / "out/val")) == sorted(kept_texts)
    sets = [reference_shingles(text) for text in kept_texts]
    close = [len(a & b) / len(a | b) for a, b in itertools.combinations(sets, 2)]
    assert max(close) < 0.8
    assert max(close) > 0.75  # what is a little under the threshold stays


def test_a_twin_of_the_other_side_is_left_out(made, corpus):
    """Of two that resemble each other the hashes often fall on both sides; the second is on neither."""
    train, held_out = texts_of(made / "out"), texts_of(made / "out/val")
    sides = {**dict.fromkeys(train, "train"), **dict.fromkeys(held_out, "validation")}
    plain = made / "plain"
    encode_corpus([made / "text"], ByteTokenizer(), plain, options=replace(OPTIONS, dedup="none"))
    would_be = {
        **dict.fromkeys(texts_of(plain), "train"),
        **dict.fromkeys(texts_of(plain / "val"), "validation"),
    }
    crossed = 0
    for row in listed(made / "out"):
        copy, kept = (Path(str(row[name])).read_text() for name in ("document", "resembles"))
        assert copy not in sides
        assert sides[kept] == would_be[kept]
        crossed += would_be[copy] != would_be[kept]
    assert crossed > 20


def test_copies_to_the_byte_are_left_out_too(tmp_path, corpus):
    texts = [*corpus[:5], *corpus[:3], "", " ", ". ", " ", "one two", "one  two", "one three"]
    encode_corpus([write_source(tmp_path / "t", texts)], ByteTokenizer(), tmp_path / "out", options=OPTIONS)
    rows = listed(tmp_path / "out")
    kinds = [Path(str(row["document"])).name + (" equals" if "equals" in row else "") for row in rows]
    near = [row for row in rows if "equals" not in row]
    assert [kind for kind in kinds if "equals" in kind] == [
        "005.txt equals",
        "006.txt equals",
        "007.txt equals",
        "011.txt equals",
    ]
    assert [row["similarity"] for row in near if str(row["document"]).endswith("013.txt")] == [1.0]
    assert "014.txt" not in kinds


def test_the_manifest_its_digest_and_the_plan_say_how(made, tmp_path):
    rows = listed(made / "out")
    for side in ("out", "out/val"):
        manifest = read_manifest(made / side)
        found = manifest.dedup
        assert found is not None
        size = sum(int(str(row["num_bytes"])) for row in rows)
        counts = {"num_documents": len(rows), "num_bytes": size, "num_near": len(rows)}
        assert found["dropped"] == [{"name": "text", **counts}]
        assert found["rule"] == "jaccard-first-kept-v1"
        assert found["near"]["threshold"] == 0.8
        assert found["near"]["library"] == LIBRARY
        other = replace(manifest, dedup={**found, "near": {**found["near"], "library": "rensa 9"}})
        assert other.digest != manifest.digest
    values = read_manifest(made / "out").to_dict()
    values["dedup"]["near"]["threshold"] = 2.0
    with pytest.raises(ManifestValueBad) as bad:
        parse_manifest(values, "here")
    assert bad.value.field == "dedup.near.threshold"
    del values["dedup"]["near"]["seed"]
    with pytest.raises(ManifestFieldMissing) as missing:
        parse_manifest(values, "here")
    assert missing.value.fields == "dedup.near.seed"


def test_another_threshold_leaves_out_others(made, tmp_path):
    counts = []
    for threshold in (0.5, 0.8, 1.0):
        out = tmp_path / str(threshold)
        options = replace(OPTIONS, dedup_threshold=threshold)
        encode_corpus([made / "text"], ByteTokenizer(), out, options=options)
        assert all(float(str(row["similarity"])) >= threshold for row in listed(out))
        counts.append(len(listed(out)))
    assert counts[0] > counts[1] > counts[2]


def test_a_weight_repeats_what_is_kept_and_nothing_that_resembles_it(tmp_path, corpus):
    text = corpus[0]
    near = text.replace(" ", " x ", 1)
    first = Source(path=write_source(tmp_path / "a", [text, near, "alone"]), weight=2.0)
    second = Source(path=write_source(tmp_path / "b", [near, "other"]), weight=1.0)
    options = EncodeOptions(val_fraction=0.0, dedup="near")
    encode_corpus([first, second], ByteTokenizer(), tmp_path / "out", options=options)
    assert texts_of(tmp_path / "out") == [text, "alone", text, "alone", "other"]
    assert [Path(str(row["document"])).parent.name for row in listed(tmp_path / "out")] == ["a", "a", "b"]


def test_documents_with_too_many_candidates_are_counted(tmp_path, monkeypatch):
    """Thirty pages of one template, alike by three quarters, and then a near copy of the last."""
    draw = random.Random(2)
    template = " ".join(f"t{number}" for number in range(400))
    pages = [f"{template} " + " ".join(f"p{draw.randrange(10**6)}" for _ in range(55)) for _ in range(30)]
    corpus = write_source(tmp_path / "text", [*pages, f"{pages[-1]} last"])
    options = EncodeOptions(val_fraction=0.0, dedup="near")
    for most, crowded in ((256, 0), (3, 27)):
        monkeypatch.setattr(near_index, "_MOST_COMPARED", most)
        out = tmp_path / str(most)
        found = encode_corpus([corpus], ByteTokenizer(), out, options=options).train.dedup
        assert found is not None
        assert abs(found["near"]["num_crowded"] - crowded) <= 1
        assert [Path(str(row["resembles"])).name for row in listed(out)] == ["029.txt"]


@pytest.mark.parametrize("recent", [1, 1000])
@pytest.mark.parametrize("after", [1, 9, 20])
def test_an_encoder_that_was_stopped_ends_in_the_same_bytes(
    made, crowded, tmp_path, monkeypatch, after, recent
):
    monkeypatch.setattr(encode, "_BATCH_DOCUMENTS", 10)
    monkeypatch.setattr(encode, "_JOURNAL_EVERY_S", 0.0)
    monkeypatch.setattr(band_index, "_RECENT", recent)
    monkeypatch.setattr(near_index, "_MOST_COMPARED", 1)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    calls = []

    def stop(*figures: object) -> None:
        calls.append(figures)
        if len(calls) == after:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        encode_corpus([made / "text"], ByteTokenizer(), out, options=OPTIONS, on_progress=stop)
    assert {"keys.bin", "shingles.bin"} <= {path.name for path in (out / ".encoding").iterdir()}
    with pytest.raises(EncodingDiffers) as caught:
        encode_corpus([made / "text"], ByteTokenizer(), out, options=replace(OPTIONS, dedup_threshold=0.9))
    assert caught.value.field == "--dedup-threshold"
    found = encode_corpus([made / "text"], ByteTokenizer(), out, options=OPTIONS)
    assert found.num_tokens_before > 0
    assert found.train.digest == read_manifest(crowded).digest
    names = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    assert names == {p.relative_to(crowded) for p in crowded.rglob("*") if p.is_file()}
    for name in names - {Path("manifest.json"), Path("val/manifest.json")}:
        assert (out / name).read_bytes() == (crowded / name).read_bytes()


def test_a_part_is_refused(made, tmp_path):
    portion = Portion(index=2, count=2)
    with pytest.raises(DedupInParts) as caught:
        encode_part([made / "text"], ByteTokenizer(), tmp_path / "out", options=OPTIONS, portion=portion)
    assert caught.value.part == "2/2"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dedup", "threshold"), [("exact", 0.8), ("none", 0.8), ("near", 0.49), ("near", 1.01)]
)
def test_a_threshold_that_means_nothing_is_refused(made, tmp_path, dedup, threshold):
    options = replace(OPTIONS, dedup=dedup, dedup_threshold=threshold)
    with pytest.raises(BadOption) as caught:
        encode_corpus([made / "text"], ByteTokenizer(), tmp_path / "out", options=options)
    assert caught.value.option == "--dedup-threshold"


@given(st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), max_size=40), st.data())
def test_the_index_is_a_table(documents, data):
    """In whatever pieces it is filled, and sorted in at whatever moment."""
    index = BandIndex()
    rows = np.array(documents, dtype=np.uint64).reshape(-1, 3) << np.uint64(28)
    number = 0
    while number < len(rows):
        count = data.draw(st.integers(1, 5))
        if data.draw(st.booleans()):
            index.put_many(rows[number : number + count], number)
        else:
            count = 1
            index.put(rows[number], number)
            if data.draw(st.booleans()):
                index._sort_in()
        number += count
    in_arrays = index.in_arrays(rows)
    for asked, older in zip(rows, in_arrays, strict=True):
        shared = [
            (sum(a == b for a in asked.tolist() for b in row.tolist()), place)
            for place, row in enumerate(rows)
        ]
        expected = [place for count, place in sorted(shared, key=lambda pair: (-pair[0], pair[1])) if count]
        assert index.candidates(asked, older) == expected
    assert all(len(before) >= 2 * len(after) for before, after in itertools.pairwise(index._runs))
