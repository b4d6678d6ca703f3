"""Encode with an engine, and again with the reference where the engine turns out to differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from apr.base.errors import AprError
from apr.data.corpus import read_corpus
from apr.data.errors import EncodingDiffers
from apr.data.sources import Source
from apr.tokenizer.audited import AuditedTokenizer
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.engine import REFERENCE, TextTokenizer, Tokenizer
from apr.tokenizer.engine_choice import AUTO, UNFIT, choose_engine

SMALL_CORPUS_BYTES = 8 << 20  # the reference encodes so much in the time that a fast engine takes to load


def is_small(sources: Sequence[Path | Source], glob: str) -> bool:
    """Whether a fast engine would not win back the seconds that it takes to load and compare."""
    return read_corpus(sources, glob=glob).bytes_total < SMALL_CORPUS_BYTES


def encode_audited(
    definition: TokenizerDefinition,
    engine: str,
    run: Callable[[Tokenizer], dict[str, Any]],
    on_note: Callable[[str], None] | None,
) -> dict[str, Any]:
    """Run an encoding with an engine.

    With `auto` an engine that gives other ids, also in the midst of the corpus, is given up, and the corpus is
    encoded from its beginning by the reference: what stood in the shards until then was compared in part only.

    Args:
        definition: the tokenizer.
        engine: see `choose_engine`.
        run: encodes everything with a tokenizer; after an error nothing of it may be left.
        on_note: takes a sentence, where an engine was given up.

    Returns:
        What `run` does; in its `engine`, what was compared and why a faster one was not taken.

    Raises:
        EngineMissing, EngineRefuses, EngineDiffers: a named engine cannot be taken, or not to the end.
    """
    chosen = choose_engine(definition, engine)
    tokenizer, passed_over = chosen.tokenizer, chosen.passed_over
    if passed_over is not None:
        _note(on_note, f"{passed_over.message}; encoding with HF tokenizers")
    try:
        return _completed(run(tokenizer), tokenizer, passed_over)
    except UNFIT as error:
        if engine != AUTO:
            raise
        _note(on_note, f"{error.message}; beginning again with HF tokenizers")
        return _by_reference(definition, run, error)
    except EncodingDiffers as error:
        # The process before gave the engine up, and was stopped after that: what it began is gone on with.
        if engine != AUTO or error.field != "--engine" or not error.found.startswith(f"{REFERENCE} "):
            raise
        _note(on_note, f"the encoding in {error.folder} was begun with HF tokenizers; going on with them")
        return _by_reference(definition, run, error)


def _by_reference(
    definition: TokenizerDefinition, run: Callable[[Tokenizer], dict[str, Any]], passed_over: AprError
) -> dict[str, Any]:
    reference = TextTokenizer(definition)
    return _completed(run(reference), reference, passed_over)


def _completed(
    result: dict[str, Any], tokenizer: TextTokenizer | AuditedTokenizer, passed_over: AprError | None
) -> dict[str, Any]:
    num_audited = tokenizer.num_audited if isinstance(tokenizer, AuditedTokenizer) else None
    said = None if passed_over is None else str(passed_over)
    return {
        **result,
        "engine": {**result["engine"], "audited_documents": num_audited, "passed_over": said},
    }


def _note(on_note: Callable[[str], None] | None, sentence: str) -> None:
    if on_note is not None:
        on_note(sentence)
