"""The tokens as text: shards against the tokenizer, ids against those recorded at import, counts against text's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from apr.stepzero.gate import GateResult, not_known, verdict_of

Encode = Callable[[str], list[int]]
Decode = Callable[[Sequence[int]], str]

SAMPLE_DOCUMENTS = 16
SAMPLE_TOKENS = 512  # of a document
_CUT_MARGIN = 32  # a document cut there may split its last words otherwise
# Bits per token. Below, the text is a few tokens over and over (an encoder that failed gave 0.001 and 0.111 bits);
# above, ids are as good as random: prose and code of every script lie between 6 and 11.
ENTROPY_BITS = (2.0, 13.5)
MAX_UNKNOWN_SHARE = 0.01
MIN_DISTINCT = 16


def sample_gate(
    documents: Sequence[np.ndarray],
    encode: Encode,
    decode: Decode,
    normalize: Callable[[str], str],
    *,
    eos_id: int | None,
) -> GateResult:
    """Decoding documents of the shards and encoding the text again gives the same ids.

    Args:
        documents: ids of whole documents, or of their first SAMPLE_TOKENS.
        encode, decode, normalize: the tokenizer at hand; `normalize` is what a round trip of a text gives back.
        eos_id: what ends a document in the shards; not part of its text.
    """
    wrong: list[str] = []
    text_losses: list[str] = []
    num_compared = 0
    for number, document in enumerate(documents):
        ids = [int(token) for token in document]
        cut = len(ids) >= SAMPLE_TOKENS
        while ids and ids[-1] == eos_id:
            ids.pop()
        text = decode(ids)
        again = encode(text)
        length = max(0, len(ids) - _CUT_MARGIN) if cut else max(len(ids), len(again))
        num_compared += length
        if ids[:length] != again[:length]:
            at = next(i for i in range(length) if ids[i : i + 1] != again[i : i + 1])
            wrong.append(
                f"token {at} of sampled document {number} is {_at(ids, at)} in the shards and {_at(again, at)} here"
            )
        elif decode(again) != normalize(text):
            text_losses.append(f"sampled document {number} does not come back from its ids as the same text")
    defects = wrong + text_losses
    return GateResult(
        id="tokens.sample",
        claim="documents decoded and encoded again give the ids of the shards",
        verdict=verdict_of(not defects and num_compared > 0),
        figure=len(defects),
        limit=0,
        cause=defects[0] if defects else ("" if num_compared else "the sample holds no token"),
        facts={"num_documents": len(documents), "num_tokens": num_compared},
    )


def _at(ids: Sequence[int], index: int) -> str:
    return str(ids[index]) if index < len(ids) else "missing"


def probe_gate(
    *, recorded: Sequence[int] | None, encoded: Sequence[int], text: str, restored: str, expected: str
) -> GateResult:
    """The tokenizer gives the ids that were recorded at import, and its ids decode back to the text.

    Args:
        recorded: ids of the probe in the checkpoint's reference; None where it has none.
        encoded: ids of the same text by the tokenizer at hand.
        text: of the probe.
        restored: what decoding its ids gives.
        expected: what a round trip must give: the text, normalised as the tokenizer says.
    """
    claim = "the tokenizer gives the ids recorded at import, and they decode back to the text"
    if restored != expected:
        at = next((i for i, (a, b) in enumerate(zip(restored, expected, strict=False)) if a != b), -1)
        at = at if at >= 0 else min(len(restored), len(expected))
        return GateResult(
            id="tokens.probe", claim=claim, verdict="no", figure=at, limit=len(expected),
            cause=f"a text does not come back from its ids: {expected[at : at + 12]!r} became "
            f"{restored[at : at + 12]!r}",
        )  # fmt: skip
    if recorded is None:
        return not_known("tokens.probe", claim, "the file records no reference")
    differing = sum(a != b for a, b in zip(recorded, encoded, strict=False)) + abs(
        len(recorded) - len(encoded)
    )
    return GateResult(
        id="tokens.probe",
        claim=claim,
        verdict=verdict_of(not differing),
        figure=differing,
        limit=0,
        cause=f"{differing} of {len(recorded)} ids of a fixed text are not those that the checkpoint was imported with"
        if differing
        else "",
        facts={"num_tokens": len(recorded), "num_characters": len(text)},
    )


def statistics_gate(counts_V: np.ndarray, *, unknown_id: int | None) -> GateResult:
    """The ids are distributed as those of text are.

    Args:
        counts_V: how often each id occurs, [V].
        unknown_id: what stands for text that the vocabulary cannot spell; None where there is none.
    """
    total = int(counts_V.sum())
    shares = counts_V[counts_V > 0] / max(1, total)
    bits = float(-(shares * np.log2(shares)).sum())
    distinct, unknown = (
        len(shares),
        0.0 if unknown_id is None else float(counts_V[unknown_id] / max(1, total)),
    )
    low, high = ENTROPY_BITS
    wrong = []
    if not low <= bits <= high:
        kind = "a few tokens over and over" if bits < low else "ids that follow no text"
        wrong.append(f"the tokens have an entropy of {bits:.3f} bits, outside {low} to {high}: {kind}")
    if distinct < MIN_DISTINCT:
        wrong.append(f"only {distinct} different ids occur")
    if unknown > MAX_UNKNOWN_SHARE:
        wrong.append(f"{unknown:.1%} of the tokens are the unknown token")
    return GateResult(
        id="tokens.statistics",
        claim="the ids are distributed as those of text are",
        verdict=verdict_of(not wrong),
        figure=bits,
        limit=f"{low} to {high} bits",
        cause="; ".join(wrong),
        facts={
            "num_tokens": total,
            "num_distinct": distinct,
            "unknown_share": unknown,
            "entropy_nats": bits * math.log(2),
        },
    )


def eos_gate(
    *,
    policy: str,
    manifest_eos: int | None,
    tokenizer_eos: int | None,
    ends: Sequence[int],
    num_eos: int,
    num_documents: int,
) -> GateResult:
    """Documents end with the tokenizer's own end-of-text id.

    Args:
        policy: `after`, `between` or `none`.
        manifest_eos: the id that the shards were made with.
        tokenizer_eos: the tokenizer's.
        ends: the token before the start of each document but the first, of a sample.
        num_eos: occurrences of the id in all.
        num_documents: in all.
    """
    claim = "documents are separated by the tokenizer's own end-of-text id"
    if policy == "none":
        return not_known("tokens.eos", claim, "the shards were made without a separator")
    missing = sum(end != tokenizer_eos for end in ends)
    needed = num_documents - (policy == "between")
    cause = ""
    if manifest_eos != tokenizer_eos:
        cause = f"the shards were made with the end-of-text id {manifest_eos}, and the tokenizer's is {tokenizer_eos}"
    elif missing:
        cause = (
            f"{missing} of {len(ends)} sampled documents do not end with the end-of-text id {tokenizer_eos}"
        )
    elif num_eos < needed:
        cause = f"the end-of-text id occurs {num_eos} times in {num_documents} documents"
    return GateResult(
        id="tokens.eos",
        claim=claim,
        verdict=verdict_of(not cause),
        figure=manifest_eos,
        limit=tokenizer_eos,
        cause=cause,
        facts={
            "policy": policy,
            "num_sampled": len(ends),
            "num_eos": num_eos,
            "num_documents": num_documents,
        },
    )
