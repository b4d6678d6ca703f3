"""`apr tokenize` and `apr data merge`: take over a tokenizer, encode a corpus, on one machine or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from apr.base.errors import OutputExists
from apr.convert.gguf_source import read_gguf_tokenizer
from apr.data.assembly import VALIDATION_FOLDER
from apr.data.encode import EncodeResult, encode_corpus, encode_part
from apr.data.encode_options import EncodeOptions
from apr.data.manifest import Manifest, SourceRecord
from apr.data.merge import merge_parts
from apr.data.part_record import PartRecord
from apr.data.sources import parse_source
from apr.data.spans import parse_portion
from apr.tokenizer.definition import TOKENIZER_FILE, TokenizerDefinition, save_definition
from apr.tokenizer.engine import REFERENCE, TextTokenizer, Tokenizer
from apr.tokenizer.engine_choice import AUTO
from apr.train.inputs import read_tokenizer
from apr.workflows.engines import encode_audited, is_small

Progress = Callable[[str, int, int | None], None]  # phase, done, in all


def import_tokenizer(
    source: Path, out: Path, *, eos_token: str | None = None, force: bool = False
) -> dict[str, Any]:
    """Write a source's tokenizer as a folder.

    Args:
        source: a Hugging Face folder, a tokenizer.json, a GGUF file or an .apr file.
        out: the folder.
        eos_token: the token that ends a document, where the source does not say.
        force: replace the tokenizer that is there.

    Returns:
        {path, vocab_size, sha256, end_of_text_id, end_of_text_reason, bos_token_id, eos_token_id}.
    """
    if (out / TOKENIZER_FILE).exists() and not force:
        raise OutputExists(path=str(out / TOKENIZER_FILE))
    definition = _read(source, eos_token)
    engine = TextTokenizer(definition)
    save_definition(definition, out)
    return {"path": str(out), "vocab_size": engine.vocab_size, **definition.to_dict()}


def _read(source: Path, eos_token: str | None) -> TokenizerDefinition:
    if source.suffix == ".gguf":
        return read_gguf_tokenizer(source, eos_token)
    return read_tokenizer(source, eos_token)


def encode(
    corpus: Sequence[str | Path],
    tokenizer_path: Path,
    out: Path,
    *,
    part: str | None = None,
    engine: str = AUTO,
    eos_token: str | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
    on_note: Callable[[str], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Encode a corpus, or one part of it, into shards (see `apr.data.encode`).

    Args:
        corpus: each `path` or `path:weight`.
        part: `i/n`; None for the whole corpus.
        engine: see `apr.tokenizer.engine_choice`; `auto` takes the reference for a small corpus.
        on_note: takes a sentence, where an engine was given up.

    Returns:
        {train, validation, sources, dedup, engine, round_trips, unknown_fraction, skipped, empty, tokens_before,
        tokens_per_sec, elapsed_s}; each side is its manifest's counts with its path. For a part
        {part: {path, index, count, ...}} stands in the place of the first three.
    """
    sources = [parse_source(str(source)) for source in corpus]
    portion = parse_portion(part) if part is not None else None
    how = EncodeOptions(**options)

    def progress(done: int, total: int | None, tokens: int) -> None:
        if on_progress:
            on_progress("encoding", done, total)

    def run(tokenizer: Tokenizer) -> dict[str, Any]:
        if portion is None:
            made = encode_corpus(sources, tokenizer, out, options=how, force=force, on_progress=progress)
            return _told(out, made)
        record = encode_part(
            sources, tokenizer, out, options=how, portion=portion, force=force, on_progress=progress
        )
        return _told_part(out, record)

    definition = read_tokenizer(tokenizer_path, eos_token)
    if engine == AUTO and is_small(sources, how.glob):
        engine = REFERENCE
    return encode_audited(definition, engine, run, on_note)


def merge(
    parts: Sequence[Path], out: Path, *, force: bool = False, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Make one dataset of all parts of a corpus (see `apr.data.merge`); returns what `encode` does."""

    def progress(done: int, total: int) -> None:
        if on_progress:
            on_progress("merging", done, total)

    return _told(out, merge_parts(parts, out, force=force, on_progress=progress))


def _told(out: Path, result: EncodeResult) -> dict[str, Any]:
    sides = [side for side in (result.train, result.validation) if side]
    return {
        "train": _side(out, result.train),
        "validation": _side(out / VALIDATION_FOLDER, result.validation) if result.validation else None,
        "sources": [_source([side.sources[i] for side in sides]) for i in range(len(result.train.sources))],
        "dedup": result.train.dedup,
        "engine": _engine(result.train.engine),
        "round_trips": result.num_round_trips,
        "unknown_fraction": result.unknown_fraction,
        "skipped": result.counts.num_skipped,
        "empty": result.counts.num_empty,
        "tokens_before": result.num_tokens_before,
        "tokens_per_sec": sum(side.total_tokens for side in sides) / max(result.elapsed_s, 1e-9),
        "elapsed_s": result.elapsed_s,
    }


def _told_part(out: Path, record: PartRecord) -> dict[str, Any]:
    num_tokens = record.audit["num_tokens"]
    return {
        "part": {
            "path": str(out),
            "index": record.index,
            "count": record.count,
            "total_documents": record.assembly.num_rows,
            "total_tokens": num_tokens,
        },
        "engine": _engine(record.facts["engine"]),
        "round_trips": record.audit["num_round_trips"],
        "unknown_fraction": record.audit["num_unknown"] / max(num_tokens, 1) if record.has_unknown else None,
        "skipped": record.counts.num_skipped,
        "empty": record.counts.num_empty,
        "tokens_before": 0,
        "tokens_per_sec": num_tokens / max(record.elapsed_s, 1e-9),
        "elapsed_s": record.elapsed_s,
    }


def _engine(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if record is None else {**record, "audited_documents": None, "passed_over": None}


def _source(sides: Sequence[SourceRecord]) -> dict[str, Any]:
    counts = ("num_documents", "num_tokens", "num_bytes")
    sums = {name: sum(getattr(side, name) for side in sides) for name in counts}
    return {"name": sides[0].name, "weight": sides[0].weight, **sums}


def _side(path: Path, manifest: Manifest) -> dict[str, Any]:
    names = ("total_tokens", "total_documents", "total_bytes", "shard_count", "max_token_id", "vocab_size")
    return {"path": str(path), **{name: getattr(manifest, name) for name in names}, "digest": manifest.digest}
