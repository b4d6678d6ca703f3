"""The same pre-tokenizer in the spelling that fast engines know: one pattern, then bytes.

GPT-2's splitting is built into the ByteLevel step, and SmolLM2's comes after a step that sets digits apart. Engines
that scan one pattern in one pass fall back to slow general code for either. The pattern below says the same:

    Digits, individual   every number stands alone, so no run of them and no space before one: `\\p{N}`, not ` ?\\p{N}+`
    the piece ends there so white space before a number is whole, as it is before the end: `\\s+(?=\\p{N})`

Fourteen characters are exceptions (`DISPUTED`): the digit step of HF tokenizers knows numbers of Unicode 17 and its
patterns do not; U+180E is white space in its patterns, and elsewhere no more. Texts with one belong to the original.
Nobody has to trust this: what an engine makes of it is compared with the original, and no id is kept before.
"""

from __future__ import annotations

import json
from typing import Any

# Found by encoding every character between others; the suite of hard texts holds them, so that a version of a library
# with other tables shows before anything is encoded.
DISPUTED = ("\u180e", *map(chr, range(0x11DE0, 0x11DEA)), *map(chr, range(0x16FF4, 0x16FF7)))

_BEFORE = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|"
_AFTER = r"|\s+(?!\S)|\s+"
_BUILT_IN = _BEFORE + r" ?\p{N}+| ?[^\s\p{L}\p{N}]+" + _AFTER
_BUILT_IN_AFTER_DIGITS = _BEFORE + r"\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})" + _AFTER


def respelled(json_text: str) -> str:
    """Respell a tokenizer.json's pre-tokenizer; any other than those two stays as it is.

    Args:
        json_text: the tokenizer.json.

    Returns:
        A tokenizer.json that gives the same ids.
    """
    document = json.loads(json_text)
    pattern = _pattern(document.get("pre_tokenizer"))
    if pattern is None:
        return json_text
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, byte_level]}
    return json.dumps(document, ensure_ascii=False)


def _pattern(node: Any) -> str | None:
    steps = node["pretokenizers"] if node and node.get("type") == "Sequence" else [node]
    match steps:
        case [{"type": "ByteLevel"} as last]:
            pattern = _BUILT_IN
        case [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"} as last]:
            pattern = _BUILT_IN_AFTER_DIGITS
        case _:
            return None
    # Both default to true in the format; a prefix space is put before the split, so it is no matter of spelling.
    is_plain = last.get("use_regex", True) and not last.get("add_prefix_space", True)
    return pattern if is_plain else None
