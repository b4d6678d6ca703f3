"""A manifest is read strictly, and its digest names the dataset."""

import json

import pytest

from apr.base.files import canonical_json, sha256_bytes
from apr.data.errors import ManifestFieldMissing, ManifestFieldUnknown, ManifestValueBad
from apr.data.manifest import parse_manifest, shard_name


@pytest.fixture
def manifest(make_manifest):
    return make_manifest([[1, 2, 3], [4, 5]], starts=(0, 2))


def changed(manifest, path, value):
    """The manifest as JSON with the value at a dotted path replaced, added, or removed where it is `...`."""
    values = json.loads(json.dumps(manifest.to_dict()))
    place = values
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return values


def test_a_manifest_reads_back_as_it_was_written(manifest):
    assert parse_manifest(json.loads(json.dumps(manifest.to_dict())), "test") == manifest


def test_every_field_must_be_there(manifest):
    paths = list(manifest.to_dict())
    paths += [f"split.{name}" for name in manifest.to_dict()["split"]]
    paths += [f"shards.1.{name}" for name in manifest.to_dict()["shards"][1]]
    paths.remove("format_version")  # tested below: another version is another error
    paths += [f"sources.0.{name}" for name in manifest.to_dict()["sources"][0]]
    paths += [f"engine.{name}" for name in manifest.to_dict()["engine"]]
    paths.remove("engine")  # tested below: older datasets have none
    assert len(paths) == 21 + 4 + 3 + 5 + 3
    for path in paths:
        with pytest.raises(ManifestFieldMissing) as caught:
            parse_manifest(changed(manifest, path, ...), "test")
        assert caught.value.fields.split(".")[-1] == path.split(".")[-1]


def test_a_dataset_from_before_engines_were_recorded_keeps_its_digest(manifest):
    older = parse_manifest(changed(manifest, "engine", ...), "test")
    assert older.engine is None
    assert "engine" not in older.to_dict()
    assert older.digest == manifest.digest


@pytest.mark.parametrize("path", ["totl_tokens", "split.sed", "shards.0.sha265"])
def test_an_unknown_field_is_refused_with_the_nearest(manifest, path):
    with pytest.raises(ManifestFieldUnknown) as caught:
        parse_manifest(changed(manifest, path, 1), "test")
    assert caught.value.nearest.split(".")[-1] in ("total_tokens", "seed", "sha256")


BAD_VALUES = [
    *[("format_version", value) for value in (0, 3, True, 1.0, ...)],
    *[("status", value) for value in ("done", None, 1)],
    *[("tokenizer_sha256", value) for value in ("A" * 64, "a" * 63, None, 5, "a" * 64 + "\n")],
    *[("corpus_sha256", ""), ("documents_sha256", "x"), ("shards.0.sha256", "g" * 64)],
    *[("total_tokens", value) for value in (4, 6, 5.0, "5", True, -5, None)],
    *[("shard_count", value) for value in (1, 3, "2")],
    *[("engine.audited_share", value) for value in (-0.1, 1.01, "1", True, None)],
    *[("engine.name", 5), ("engine.version", None), ("engine", "hf")],
    *[("total_documents", value) for value in (0, 1.5, None)],
    *[("total_bytes", 0), ("vocab_size", 0), ("vocab_size", 2**32 + 1), ("empty_documents", -1)],
    *[("max_token_id", value) for value in (1000, -1, 1.0)],
    *[("eos_policy", value) for value in ("before", None, "after", ["after"])],
    *[("eos_token_id", value) for value in (0, 7)],
    *[("seq_length_hint", value) for value in (0, "1024", False)],
    *[("producer_version", None), ("normalization", 1), ("elapsed_s", -1.0), ("elapsed_s", "1")],
    *[("split", value) for value in (None, [], "rule")],
    *[
        ("split.part", "test"),
        ("split.fraction", 1.0),
        ("split.seed", 1.5),
        ("split.seed", True),
        ("split.rule", 1),
    ],
    *[("bad", {}), ("bad", None), ("bad.not_utf8", -1), ("bad.other", 0)],
    *[("sources", value) for value in ([], None, {}, ["text"])],
    *[("sources.0.weight", value) for value in (-1.0, "1", None, True)],
    *[("sources.0.num_documents", value) for value in (1, 3, -2, "2")],
    *[("sources.0.num_tokens", 4), ("sources.0.num_bytes", 2), ("sources.0.name", None)],
    *[("shards", value) for value in ([], None, {}, ["shard-00000.bin"])],
    *[("shards.0.name", value) for value in ("../shard-00000.bin", "shard-00001.bin", "shard-0.bin", None)],
    *[("shards.0.num_tokens", value) for value in (0, -3, "3", 4)],
]


@pytest.mark.parametrize(("path", "value"), BAD_VALUES)
def test_a_value_out_of_range_is_refused(manifest, path, value):
    with pytest.raises(ManifestValueBad):
        parse_manifest(changed(manifest, path, value), "test")


@pytest.mark.parametrize("eos_token_id", [None, -1, 1000, "7"])
def test_a_separator_that_is_no_id_is_refused(make_manifest, eos_token_id):
    good = make_manifest([[1, 2]], eos_policy="after", eos_token_id=7)
    parse_manifest(good.to_dict(), "test")
    with pytest.raises(ManifestValueBad) as caught:
        parse_manifest(changed(good, "eos_token_id", eos_token_id), "test")
    assert caught.value.field == "eos_token_id"


def test_the_digest_is_of_everything_but_the_time(make_manifest):
    base = make_manifest([[1, 2, 3]])
    assert make_manifest([[1, 2, 3]], elapsed_s=99.0).digest == base.digest
    changes = {"seq_length_hint": 8, "total_bytes": 2, "corpus_sha256": "c" * 64, "vocab_size": 999}
    digests = {make_manifest([[1, 2, 3]], **{name: value}).digest for name, value in changes.items()}
    digests |= {make_manifest([[1, 2, 4]]).digest, base.digest}
    assert len(digests) == len(changes) + 2


def test_version_1_is_read_as_strictly_and_keeps_its_digest(manifest):
    old = {**manifest.to_dict(), "format_version": 1}
    with pytest.raises(ManifestFieldUnknown):
        parse_manifest(old, "test")
    del old["sources"], old["engine"]
    read = parse_manifest(old, "test")
    assert read.to_dict() == old
    assert read.digest == sha256_bytes(canonical_json({**old, "elapsed_s": 0.0}))
    with pytest.raises(ManifestFieldMissing):
        parse_manifest(changed(read, "bad", ...), "test")


def test_the_sources_add_up_with_the_separators(make_manifest):
    for policy, tokens in (("after", 3), ("between", 4), ("none", 5)):
        eos = None if policy == "none" else 7
        made = make_manifest([[1, 2, 3], [4, 5]], starts=(0, 2), eos_policy=policy, eos_token_id=eos)
        assert made.sources[0].num_tokens == tokens
        assert parse_manifest(made.to_dict(), "test") == made


def test_shard_names_sort_in_order():
    assert [shard_name(index) for index in (0, 12, 99_999)] == [
        "shard-00000.bin",
        "shard-00012.bin",
        "shard-99999.bin",
    ]
