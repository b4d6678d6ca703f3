"""What a text is after encoding and decoding: the form that a round trip must give back.

A tokenizer.json normalizes in two ways. Some steps change the text for good (NFC); others only respell
spaces for the model (SentencePiece's mark U+2581), and the decoder undoes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SPACE_MARK = "\u2581"


def steps(node: Any) -> Iterator[Mapping[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder, those of its sequences included, in order."""
    if not isinstance(node, dict):
        return
    if node.get("type") != "Sequence":
        yield node
        return
    for key in ("normalizers", "pretokenizers", "decoders"):
        for child in node.get(key, []):
            yield from steps(child)


def marks_spaces(document: Mapping[str, Any]) -> bool:
    """Whether spaces are respelled with the mark, which makes a literal mark come back as a space."""
    normalizer = any(step.get("content") == SPACE_MARK for step in steps(document.get("normalizer")))
    return normalizer or any(step.get("type") == "Metaspace" for step in steps(document.get("pre_tokenizer")))


def restored(document: Mapping[str, Any], normalized: str) -> str:
    """Undo what the decoder undoes.

    Args:
        document: the parsed tokenizer.json.
        normalized: the text as its normalizer leaves it.

    Returns:
        The text that decoding gives, for a text without added tokens.
    """
    if not marks_spaces(document):
        return normalized
    # A prefix mark is stripped whether the normalizer put it there or the text began with a space; only a
    # Metaspace that prefixes makes those two alike.
    is_prefixed = any(step.get("type") == "Prepend" for step in steps(document.get("normalizer"))) or any(
        step.get("prepend_scheme", "always") != "never"
        for step in steps(document.get("pre_tokenizer"))
        if step.get("type") == "Metaspace"
    )
    text = normalized.replace(SPACE_MARK, " ")
    return text.removeprefix(" ") if is_prefixed else text
