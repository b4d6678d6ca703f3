"""Which documents are held out.

The side follows from the text alone, so equal documents are always on one side, whatever file they come from
and in whatever order they are read, and adding documents moves none of the others.
"""

from __future__ import annotations

import hashlib

from apr.base.errors import BadOption

SPLIT_RULE = "sha256-u64-v1"  # names the arithmetic below; another arithmetic takes another name
_SCALE = 1 << 64


def check_fraction(fraction: float) -> None:
    """Refuse a validation fraction outside [0, 1).

    Raises:
        BadOption: it is outside, or not a number.
    """
    if not 0.0 <= fraction < 1.0:
        raise BadOption(option="--val-fraction", value=str(fraction), limit="from 0 to below 1")


def is_validation(text: str, seed: int, fraction: float) -> bool:
    """Decide whether a document is held out.

    The first 8 bytes of sha256(seed in decimal, a zero byte, the text in UTF-8), read as a big-endian number
    u, hold the document out when u < fraction * 2**64.

    Args:
        text: the whole document.
        seed: any integer; another seed gives another split.
        fraction: expected share of documents held out, from 0 to below 1.
    """
    digest = hashlib.sha256(b"%d\0" % seed)
    digest.update(text.encode())
    return int.from_bytes(digest.digest()[:8], "big") < int(fraction * _SCALE)
