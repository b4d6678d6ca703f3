"""`apr run`: continue a prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from apr.aprfile.reader import open_apr
from apr.base.errors import BadOption
from apr.evals.generate import NextLogits, generate
from apr.model.adapters import next_logits
from apr.model.errors import SequenceTooLong
from apr.model.load import load_decoder
from apr.tokenizer.engine import TextTokenizer
from apr.train.device import resolve_compute
from apr.train.errors import NoTokenizer
from apr.train.inputs import tokenizer_of


def generate_text(
    path: Path,
    prompt: str,
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Continue a prompt with an .apr model, in fp32 on the CPU.

    Args:
        path: the model.
        prompt: the text to continue.
        max_new_tokens: how many tokens to make at most; an end-of-text token ends it earlier.
        temperature: 0 takes the likeliest token.
        seed: of the sampling.
        on_text: called with each new piece of text as soon as it is whole.

    Returns:
        {text, token_ids}: the continuation without the prompt.

    Raises:
        AprError: the model cannot be used, or prompt and continuation do not fit into its positions.
    """
    if max_new_tokens < 1:
        raise BadOption(option="-n", value=str(max_new_tokens), limit="a whole number from 1")
    if not 0 <= temperature < float("inf"):
        raise BadOption(option="--temperature", value=str(temperature), limit="a finite number from 0")
    compute = resolve_compute("cpu", "fp32")
    with open_apr(path, "full") as file:
        loaded = load_decoder(file, compute.device)
    definition = tokenizer_of(loaded.facts)
    if definition is None:
        raise NoTokenizer(source=str(path))
    tokenizer = TextTokenizer(definition)
    prompt_ids = tokenizer.encode(prompt)
    if not prompt_ids:
        raise BadOption(option="the prompt", value=repr(prompt), limit="at least one token long")
    capacity = len(prompt_ids) + max_new_tokens
    limit_name, limit = loaded.facts.config.sequence_limit
    if capacity > limit:
        raise SequenceTooLong(length=capacity, limit_name=limit_name, limit=limit)
    ends = (definition.end_of_text_id, definition.eos_token_id)
    spoken = _Speaker(tokenizer, on_text)
    ids = generate(
        _spellable(next_logits(loaded.decoder, capacity=capacity, dtype=compute.dtype), tokenizer.max_id),
        prompt_ids,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        stop_ids=frozenset(i for i in ends if i is not None),
        on_token=spoken.hear,
    )
    spoken.finish()
    return {"text": tokenizer.decode(ids), "token_ids": ids}


def _spellable(score: NextLogits, max_id: int) -> NextLogits:
    """Leave out the rows that pad an embedding beyond its tokenizer: their ids spell nothing."""
    return lambda ids_BT: score(ids_BT)[: max_id + 1]


class _Speaker:
    """Says what new ids add to the text; a character of several tokens is held back until it is whole."""

    def __init__(self, tokenizer: TextTokenizer, on_text: Callable[[str], None] | None) -> None:
        self._tokenizer, self._on_text = tokenizer, on_text
        self._ids: list[int] = []
        self._said = ""

    def hear(self, token: int) -> None:
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        if not text.endswith("\ufffd"):
            self._say(text)

    def finish(self) -> None:
        self._say(self._tokenizer.decode(self._ids))

    def _say(self, text: str) -> None:
        if self._on_text and len(text) > len(self._said):
            self._on_text(text[len(self._said) :])
        self._said = text
