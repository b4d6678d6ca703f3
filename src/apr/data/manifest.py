"""The manifest: what a folder of token shards is, and the digests that prove it.

A dataset folder holds `shard-00000.bin`, ... (flat little-endian u32, no header), `documents.bin`
(little-endian u64, the token offset of each document's start) and `manifest.json`. The manifest is written
first, saying "in progress" and little else, and replaced last, so a killed encoder leaves a folder that every
reader refuses.

Version 2 added `sources`, and takes `corpus_sha256` over the documents' own digests, so that parts made on several
machines give it too. Version 1 is still read, as strictly, and keeps its digest.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

from apr import __version__
from apr.base.files import canonical_json, read_json, sha256_bytes, write_json
from apr.data.errors import (
    DatasetIsPart,
    DatasetUnfinished,
    ManifestFieldMissing,
    ManifestFieldUnknown,
    ManifestMissing,
    ManifestValueBad,
)
from apr.data.records import BAD_KINDS
from apr.tokenizer.engine_record import EngineRecord

FORMAT_VERSION = 2
KNOWN_VERSIONS = (1, 2)
_SINCE_2 = ("sources", "engine", "dedup")
MANIFEST_NAME = "manifest.json"
DOCUMENTS_NAME = "documents.bin"
PRODUCER_VERSION = f"apr {__version__}"
IN_PROGRESS, PART, COMPLETE = "in progress", "part", "complete"
EOS_POLICIES = ("after", "between", "none")
PARTS = ("train", "validation")
_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_VOCAB_SIZE = 1 << 32  # ids are u32


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """One shard file."""

    name: str
    sha256: str
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRecord:
    """How the corpus was split, and which part this dataset is."""

    rule: str
    seed: int
    fraction: float
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """What one source of the corpus gave to this part."""

    name: str  # without its folders
    weight: float  # how often its documents were taken
    num_documents: int
    num_tokens: int  # of the documents, without separators
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A complete dataset.

    `corpus_sha256`, `bad` and `empty_documents` are of the whole corpus and equal in both of its parts; all
    other counts are of this part.
    """

    format_version: int
    status: str
    producer_version: str
    tokenizer_sha256: str
    normalization: str
    vocab_size: int
    eos_policy: str
    eos_token_id: int | None  # None when the policy is none
    corpus_sha256: str
    bad: Mapping[str, int]
    empty_documents: int
    sources: tuple[SourceRecord, ...]  # () in version 1
    split: SplitRecord
    seq_length_hint: int | None
    total_documents: int
    total_tokens: int
    total_bytes: int  # UTF-8 bytes of text, for bits per byte
    max_token_id: int
    shard_count: int
    shards: tuple[ShardRecord, ...]
    documents_sha256: str
    engine: Mapping[str, Any] | None  # the fields of an EngineRecord; None in older datasets
    dedup: Mapping[str, Any] | None  # the rule, what each source lost, a digest of it; None where copies stay
    elapsed_s: float

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON values; `parse_manifest` reads it back to an equal manifest."""
        values = {
            **asdict(self),
            "shards": [asdict(shard) for shard in self.shards],
            "sources": [asdict(source) for source in self.sources],
        }
        if self.engine is None:
            del values["engine"]  # so that a dataset from before keeps its digest
        if self.dedup is None:
            del values["dedup"]
        return {
            name: value for name, value in values.items() if name in fields_of_version(self.format_version)
        }

    @property
    def digest(self) -> str:
        """Identity of the dataset: sha256 of the canonical manifest without the time and the engine that it took.

        Engines differ in speed only; one that gave other ids would show in the digests of the shards.
        """
        return sha256_bytes(canonical_json(replace(self, elapsed_s=0.0, engine=None).to_dict()))


def fields_of_version(format_version: int) -> list[str]:
    """Names of the fields that a manifest of this version has."""
    names = [field.name for field in fields(Manifest)]
    return [name for name in names if format_version >= 2 or name not in _SINCE_2]


def shard_name(index: int) -> str:
    """The file name of a shard; names sort in the order of the shards."""
    return f"shard-{index:05d}.bin"


def write_in_progress(folder: Path, tokenizer_sha256: str) -> None:
    """Mark a folder as being encoded.

    Raises:
        CannotWrite: the operating system refused.
    """
    claim = {
        "format_version": FORMAT_VERSION,
        "status": IN_PROGRESS,
        "producer_version": PRODUCER_VERSION,
        "tokenizer_sha256": tokenizer_sha256,
    }
    write_json(folder / MANIFEST_NAME, claim)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a complete dataset.

    Raises:
        ManifestMissing, DatasetUnfinished, DatasetIsPart: there is none, or it says "in progress" or "part".
        BadJson, CannotRead, ManifestFieldMissing, ManifestFieldUnknown, ManifestValueBad.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise ManifestMissing(folder=str(folder))
    values = read_json(path)
    if values.get("status") == IN_PROGRESS:
        raise DatasetUnfinished(folder=str(folder))
    if values.get("status") == PART:
        index, count = values.get("part_index", 0), values.get("part_count", 0)
        raise DatasetIsPart(folder=str(folder), index=index, count=count)
    return parse_manifest(values, source=str(path))


def parse_manifest(values: Mapping[str, Any], source: str) -> Manifest:
    """Read a manifest strictly: every field present, none unknown, every value in range.

    Args:
        values: the mapping that `Manifest.to_dict` makes.
        source: where it came from, for messages.

    Raises:
        ManifestFieldMissing, ManifestFieldUnknown, ManifestValueBad.
    """
    version = values.get("format_version")
    if type(version) is not int or version not in KNOWN_VERSIONS:
        # First of all, as another version may have other fields.
        _refuse(source, "format_version", version, "1 or 2, the ones known here")
    if version >= 2:
        values = {"engine": None, "dedup": None, **values}
    _require_fields(values, fields_of_version(version), source, "")
    _require_fields(_object(values["split"], source, "split"), _names(SplitRecord), source, "split.")
    shards = _records(values, "shards", ShardRecord, source)
    sources = _records(values, "sources", SourceRecord, source) if version >= 2 else ()
    manifest = Manifest(
        **{
            **values,
            "split": SplitRecord(**values["split"]),
            "shards": shards,
            "sources": sources,
            "bad": dict(_object(values["bad"], source, "bad")),
            "engine": values.get("engine"),
            "dedup": values.get("dedup"),
        }
    )
    _check_values(manifest, source)
    if manifest.engine is not None:
        _check_engine(manifest.engine, source)
    if manifest.dedup is not None:
        _check_dedup(manifest, manifest.dedup, source)
    _check_sums(manifest, source)
    return manifest


def _records(values: Mapping[str, Any], name: str, kind: type[Any], source: str) -> tuple[Any, ...]:
    found = values[name]
    if not isinstance(found, list) or not found:
        _refuse(source, name, found, f"a list of at least one of its {name}")
    for index, record in enumerate(found):
        place = f"{name}[{index}]"
        _require_fields(_object(record, source, place), _names(kind), source, f"{place}.")
    return tuple(kind(**record) for record in found)


def _check_values(manifest: Manifest, source: str) -> None:
    _require_word(source, "status", manifest.status, (COMPLETE,))
    _require_word(source, "eos_policy", manifest.eos_policy, EOS_POLICIES)
    _require_word(source, "split.part", manifest.split.part, PARTS)
    for name in ("producer_version", "normalization"):
        if not isinstance(value := getattr(manifest, name), str):
            _refuse(source, name, value, "text")
    for name in ("tokenizer_sha256", "corpus_sha256", "documents_sha256"):
        _require_sha256(source, name, getattr(manifest, name))
    for name in ("total_documents", "total_tokens", "total_bytes", "shard_count", "vocab_size"):
        _require_count(source, name, getattr(manifest, name), least=1)
    for name in ("max_token_id", "empty_documents"):
        _require_count(source, name, getattr(manifest, name), least=0)
    if manifest.seq_length_hint is not None:
        _require_count(source, "seq_length_hint", manifest.seq_length_hint, least=1)
    if not isinstance(manifest.split.rule, str):
        _refuse(source, "split.rule", manifest.split.rule, "text")
    if isinstance(manifest.split.seed, bool) or not isinstance(manifest.split.seed, int):
        _refuse(source, "split.seed", manifest.split.seed, "a whole number")
    _require_number(source, "split.fraction", manifest.split.fraction, below=1.0)
    _require_number(source, "elapsed_s", manifest.elapsed_s, below=math.inf)
    if sorted(manifest.bad) != sorted(BAD_KINDS):
        _refuse(source, "bad", ", ".join(sorted(manifest.bad)), f"exactly {', '.join(sorted(BAD_KINDS))}")
    for kind, count in manifest.bad.items():
        _require_count(source, f"bad.{kind}", count, least=0)
    for index, shard in enumerate(manifest.shards):
        _require_word(source, f"shards[{index}].name", shard.name, (shard_name(index),))
        _require_sha256(source, f"shards[{index}].sha256", shard.sha256)
        _require_count(source, f"shards[{index}].num_tokens", shard.num_tokens, least=1)
    for index, origin in enumerate(manifest.sources):
        place = f"sources[{index}]"
        if not isinstance(origin.name, str):
            _refuse(source, f"{place}.name", origin.name, "text")
        _require_number(source, f"{place}.weight", origin.weight, below=math.inf)
        for name in ("num_documents", "num_tokens", "num_bytes"):
            _require_count(source, f"{place}.{name}", getattr(origin, name), least=0)


def _check_engine(engine: Any, source: str) -> None:
    _require_fields(_object(engine, source, "engine"), _names(EngineRecord), source, "engine.")
    for name in ("name", "version"):
        if not isinstance(engine[name], str):
            _refuse(source, f"engine.{name}", engine[name], "text")
    _require_number(source, "engine.audited_share", engine["audited_share"], below=math.nextafter(1.0, 2.0))


def _check_dedup(manifest: Manifest, dedup: Any, source: str) -> None:
    near = ["near"] if isinstance(dedup, Mapping) and "near" in dedup else []
    _require_fields(
        _object(dedup, source, "dedup"), ["rule", "dropped", "dropped_sha256", *near], source, "dedup."
    )
    if not isinstance(dedup["rule"], str):
        _refuse(source, "dedup.rule", dedup["rule"], "text")
    _require_sha256(source, "dedup.dropped_sha256", dedup["dropped_sha256"])
    if near:
        _check_near(dedup["near"], source)
    rows, names = dedup["dropped"], [origin.name for origin in manifest.sources]
    if not isinstance(rows, list) or len(rows) != len(names):
        _refuse(source, "dedup.dropped", rows, "a list of what each source lost")
    counts = ["num_documents", "num_bytes", *(["num_near"] if near else [])]
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        place = f"dedup.dropped[{index}]"
        _require_fields(_object(row, source, place), ["name", *counts], source, f"{place}.")
        _require_word(source, f"{place}.name", row["name"], (name,))
        for count in counts:
            _require_count(source, f"{place}.{count}", row[count], least=0)


def _check_near(near: Any, source: str) -> None:
    words, counts = ("shingles", "library"), ("seed", "num_bands", "num_rows", "num_crowded")
    _require_fields(
        _object(near, source, "dedup.near"), ["threshold", *words, *counts], source, "dedup.near."
    )
    _require_number(source, "dedup.near.threshold", near["threshold"], below=math.nextafter(1.0, 2.0))
    for word in words:
        if not isinstance(near[word], str):
            _refuse(source, f"dedup.near.{word}", near[word], "text")
    for count in counts:
        _require_count(source, f"dedup.near.{count}", near[count], least=0)


def _check_sums(manifest: Manifest, source: str) -> None:
    if manifest.shard_count != len(manifest.shards):
        _refuse(
            source, "shard_count", manifest.shard_count, f"the number of its shards, {len(manifest.shards)}"
        )
    if manifest.total_tokens != (total := sum(shard.num_tokens for shard in manifest.shards)):
        _refuse(source, "total_tokens", manifest.total_tokens, f"the sum of its shards, {total}")
    if manifest.sources:
        _check_source_sums(manifest, source)
    if manifest.vocab_size > MAX_VOCAB_SIZE:
        _refuse(source, "vocab_size", manifest.vocab_size, f"at most {MAX_VOCAB_SIZE}")
    if manifest.max_token_id >= manifest.vocab_size:
        _refuse(source, "max_token_id", manifest.max_token_id, f"below vocab_size = {manifest.vocab_size}")
    eos = manifest.eos_token_id
    if (eos is None) != (manifest.eos_policy == "none"):
        _refuse(source, "eos_token_id", eos, f"what eos_policy = {manifest.eos_policy} needs")
    if eos is not None:
        _require_count(source, "eos_token_id", eos, least=0)
        if eos >= manifest.vocab_size:
            _refuse(source, "eos_token_id", eos, f"below vocab_size = {manifest.vocab_size}")


def _check_source_sums(manifest: Manifest, source: str) -> None:
    documents = manifest.total_documents
    separators = {"after": documents, "between": documents - 1, "none": 0}[manifest.eos_policy]
    for name, total in (
        ("num_documents", documents),
        ("num_bytes", manifest.total_bytes),
        ("num_tokens", manifest.total_tokens - separators),
    ):
        if (found := sum(getattr(origin, name) for origin in manifest.sources)) != total:
            _refuse(source, f"the sum of sources[].{name}", found, f"that of all its documents, {total}")


def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)]


def _require_fields(values: Mapping[str, Any], names: list[str], source: str, prefix: str) -> None:
    if unknown := [name for name in values if name not in names]:
        nearest = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0.0)[0]
        raise ManifestFieldUnknown(source=source, field=prefix + unknown[0], nearest=prefix + nearest)
    if missing := [prefix + name for name in names if name not in values]:
        raise ManifestFieldMissing(source=source, fields=", ".join(missing))


def _object(value: Any, source: str, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _refuse(source, field, value, "an object")
    return value


def _require_word(source: str, field: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        _refuse(source, field, value, " or ".join(allowed))


def _require_sha256(source: str, field: str, value: Any) -> None:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        _refuse(source, field, value, "64 hexadecimal digits")


def _require_count(source: str, field: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        _refuse(source, field, value, f"a whole number from {least}")


def _require_number(source: str, field: str, value: Any, *, below: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < below:
        _refuse(source, field, value, f"a number from 0 to below {below}")


def _refuse(source: str, field: str, value: Any, limit: str) -> NoReturn:
    raise ManifestValueBad(source=source, field=field, value=repr(value), limit=limit)
