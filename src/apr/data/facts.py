"""What is judged, and said, of a corpus when all of it has been read, by one machine or by several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apr.data.corpus import ReadCounts
from apr.data.errors import CorpusEmpty, SplitEmpty
from apr.data.manifest import COMPLETE, FORMAT_VERSION, PRODUCER_VERSION
from apr.data.part import Part


def require_text(counts: ReadCounts, num_tokens: int) -> None:
    """Refuse a corpus without text.

    Raises:
        CorpusEmpty: no document gave a token.
    """
    if not num_tokens:
        raise CorpusEmpty(
            num_files=counts.num_files, num_empty=counts.num_empty, num_skipped=counts.num_skipped
        )


def require_both_sides(fraction: float, sides: Sequence[Part]) -> None:
    """Refuse a split that left a side without a token.

    Args:
        fraction: held out.
        sides: the training side, and the held-out one where there is one.

    Raises:
        SplitEmpty: a side is empty.
    """
    if not all(side.num_tokens for side in sides):
        num_validation = sides[1].num_documents if len(sides) > 1 else 0
        raise SplitEmpty(fraction=fraction, num_train=sides[0].num_documents, num_validation=num_validation)


def complete_facts(counts: ReadCounts, *, elapsed_s: float) -> dict[str, Any]:
    """The fields of a complete manifest that say how reading went."""
    return {
        "format_version": FORMAT_VERSION,
        "status": COMPLETE,
        "producer_version": PRODUCER_VERSION,
        "bad": dict(counts.bad),
        "empty_documents": counts.num_empty,
        "elapsed_s": round(elapsed_s, 3),
    }
