"""Which documents of the corpus are taken, and on which side each goes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from apr.data.corpus import Document
from apr.data.sources import Source
from apr.data.split import is_validation

_SCALE = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A document that is taken."""

    document: Document
    sha256: bytes  # of its text in UTF-8
    num_bytes: int  # of that text
    is_validation: bool


def chosen_documents(
    documents: Iterable[Document], sources: Sequence[Source], *, seed: int, val_fraction: float
) -> Iterator[Chosen]:
    """The documents taken, in order.

    A source of weight w is read ceil(w) times. A last reading for a fraction takes the documents whose hash lies below
    it, so that it takes equal documents alike and others for another seed. Documents that are held out are
    taken once at most: a repeated one would count twice in every validation loss.
    """
    for document in documents:
        content = document.text.encode()
        digest = hashlib.sha256(content).digest()
        if not is_taken(digest, sources[document.source].weight, document.repeat, seed):
            continue
        held_out = bool(val_fraction) and is_validation(document.text, seed, val_fraction)
        if held_out and document.repeat:
            continue
        yield Chosen(document=document, sha256=digest, num_bytes=len(content), is_validation=held_out)


def is_taken(digest: bytes, weight: float, repeat: int, seed: int) -> bool:
    """Decide whether a document is taken when its source is read for the time `repeat`, counted from 0.

    The first 8 bytes of sha256("weight", a zero byte, seed in decimal, a zero byte, the document's sha256), read as a
    big-endian number u, take it for the fraction f of the weight that is left when u < f * 2**64.
    """
    left = weight - repeat
    if left >= 1.0:
        return True
    found = hashlib.sha256(b"weight\0%d\0" % seed + digest).digest()
    return int.from_bytes(found[:8], "big") < int(left * _SCALE)
