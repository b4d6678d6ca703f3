"""Choose the engine of an encoding: the fastest that gives the reference's ids, or the one that is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from apr.base.errors import AprError, BadOption
from apr.tokenizer.audited import AuditedTokenizer
from apr.tokenizer.definition import TokenizerDefinition
from apr.tokenizer.differential import Engine, require_equal
from apr.tokenizer.engine import REFERENCE, TextTokenizer
from apr.tokenizer.errors import EngineDiffers, EngineMissing, EngineRefuses
from apr.tokenizer.fastokens_engine import NAME as FASTOKENS
from apr.tokenizer.fastokens_engine import FastokensEngine
from apr.tokenizer.hard_texts import hard_texts

AUTO = "auto"
FAST_ENGINES: Mapping[str, Callable[[TextTokenizer], Engine]] = {FASTOKENS: FastokensEngine}  # fastest first
ENGINES = (AUTO, REFERENCE, *FAST_ENGINES)
UNFIT = (EngineMissing, EngineRefuses, EngineDiffers)  # after which `auto` goes on to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """The tokenizer to encode with."""

    tokenizer: TextTokenizer | AuditedTokenizer
    passed_over: AprError | None  # why a faster engine was not taken


def choose_engine(definition: TokenizerDefinition, wanted: str = AUTO) -> EngineChoice:
    """Load an engine and compare it with the reference over the suite of hard texts.

    Args:
        definition: the tokenizer.
        wanted: `auto`, `hf` for the reference itself, or a fast engine, which is then taken or refused.

    Raises:
        BadOption: no such engine.
        EngineMissing, EngineRefuses, EngineDiffers: the named engine cannot be taken.
        TokenizerNotLoadable, AddedTokenMoved, SpecialTokenBad: the reference cannot be loaded.
    """
    if wanted not in ENGINES:
        raise BadOption(option="--engine", value=wanted, limit=", ".join(ENGINES))
    reference = TextTokenizer(definition)
    passed_over: AprError | None = None
    for name in FAST_ENGINES if wanted == AUTO else {wanted}.intersection(FAST_ENGINES):
        try:
            return EngineChoice(tokenizer=_compared(name, reference), passed_over=passed_over)
        except UNFIT as error:
            if wanted != AUTO:
                raise
            passed_over = error
    return EngineChoice(tokenizer=reference, passed_over=passed_over)


def _compared(name: str, reference: TextTokenizer) -> AuditedTokenizer:
    engine = FAST_ENGINES[name](reference)
    require_equal(engine, reference, hard_texts(reference.added_tokens), where="a text of the suite")
    return AuditedTokenizer(reference, engine)
