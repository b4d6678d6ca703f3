"""`apr tokenize`: take over a tokenizer, encode a corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from apr.base.errors import OutputExists
from apr.convert.gguf_source import read_gguf_tokenizer
from apr.data.encode import EncodeOptions, encode_corpus
from apr.data.manifest import Manifest
from apr.tokenizer.definition import TOKENIZER_FILE, TokenizerDefinition, save_definition
from apr.tokenizer.engine import TextTokenizer
from apr.train.inputs import read_tokenizer


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
    corpus: Sequence[Path],
    tokenizer_path: Path,
    out: Path,
    *,
    eos_token: str | None = None,
    force: bool = False,
    on_progress: Callable[[str, int, int | None], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Encode a corpus into shards (see `apr.data.encode`).

    Returns:
        {train, validation, round_trips, skipped, empty, tokens_per_sec, elapsed_s}; each part is its manifest's
        counts with its path.
    """
    tokenizer = TextTokenizer(read_tokenizer(tokenizer_path, eos_token))

    def progress(done: int, total: int | None, tokens: int) -> None:
        if on_progress:
            on_progress("encoding", done, total)

    result = encode_corpus(
        corpus, tokenizer, out, options=EncodeOptions(**options), force=force, on_progress=progress
    )
    parts = [part for part in (result.train, result.validation) if part]
    return {
        "train": _part(out, result.train),
        "validation": _part(out / "val", result.validation) if result.validation else None,
        "round_trips": result.num_round_trips,
        "unknown_fraction": result.unknown_fraction,
        "skipped": result.counts.num_skipped,
        "empty": result.counts.num_empty,
        "tokens_per_sec": sum(part.total_tokens for part in parts) / max(result.elapsed_s, 1e-9),
        "elapsed_s": result.elapsed_s,
    }


def _part(path: Path, manifest: Manifest) -> dict[str, Any]:
    names = ("total_tokens", "total_documents", "total_bytes", "shard_count", "max_token_id", "vocab_size")
    return {"path": str(path), **{name: getattr(manifest, name) for name in names}, "digest": manifest.digest}
