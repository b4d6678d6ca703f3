"""What a document mask must do: attention stays inside a document, from its first token to its separator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor

from apr.stepzero.behaviour import Forward
from apr.stepzero.gate import GateResult, not_known, verdict_of
from apr.stepzero.registry import BY_ID

LEAST_TOKENS = 6  # three documents of one token and a separator
# Nats per token in fp32. Other shapes move a mean loss by some 1e-6 (docs/tolerance.md); a forgotten mask moves that of
# a window of real text by 1e-3 and more.
ALONE_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowDocuments:
    """A window's documents as a batch has them, and what its dataset says."""

    role: str  # training or validation
    index: int
    found: np.ndarray | None  # [T], the number of each input's document; None where the batch has none
    tokens: np.ndarray  # [n] inputs that are not padding, from the dataset
    starts: np.ndarray  # places in the window where the dataset lists a document's start, 0 left out


def boundaries_gate(windows: Sequence[WindowDocuments], separator_id: int) -> GateResult:
    """Judge that the boundaries that attention keeps to are those of the dataset's documents.

    Args:
        windows: of the first batches.
        separator_id: ends a document.
    """
    causes = [cause for window in windows if (cause := _boundary_fault(window, separator_id))]
    return GateResult(
        id="data.documents",
        claim=BY_ID["data.documents"].asks,
        verdict=verdict_of(not causes),
        figure=len(causes),
        limit=0,
        cause=causes[0] if causes else "",
        facts={
            "num_windows": len(windows),
            "num_boundaries": sum(int((w.tokens[:-1] == separator_id).sum()) for w in windows),
            "separator_id": separator_id,
        },
    )


def _boundary_fault(window: WindowDocuments, separator_id: int) -> str:
    name = f"window {window.index} of {window.role}"
    if window.found is None:
        return f"{name} comes without the documents of its tokens"
    steps = np.diff(window.found[: len(window.tokens)].astype(np.int64))
    expected = {place + 1 for place, token in enumerate(window.tokens[:-1].tolist()) if token == separator_id}
    found = set((np.flatnonzero(steps) + 1).tolist())
    if wrong := sorted(found ^ expected):
        what = "ends" if wrong[0] in found else "does not end"
        return f"a document of {name} {what} before its token {wrong[0]}, where the separators say otherwise"
    if missing := sorted(set(window.starts.tolist()) - found):
        return f"a document of {name} begins at token {missing[0]} behind no separator"
    return f"two documents of {name} have one number" if (steps < 0).any() else ""


@torch.no_grad()
def isolation_gate(
    masked: Forward, plain: Forward, ids: Sequence[int], separator_id: int, lengths: Sequence[int]
) -> GateResult:
    """Judge that a token changes its own document, its separator included, and no other.

    Args:
        masked: the model as it will be trained.
        plain: the same without the mask: there the change must reach the later documents, or nothing is shown.
        ids: plausible token ids.
        separator_id: ends a document.
        lengths: of the windows to try; a mask may hold at one only.
    """
    claim = BY_ID["model.documents"].asks
    tried = sorted({length for length in lengths if length >= LEAST_TOKENS})
    if not tried:
        return not_known("model.documents", claim, f"three documents need {LEAST_TOKENS} tokens")
    leaks, without, cause = 0.0, [], ""
    for length in tried:
        window, ends = _three_documents(ids, separator_id, length)
        for number, (start, end) in enumerate(zip((0, ends[0] + 1), ends, strict=True), 1):
            changed = window.clone()
            changed[0, end - 1] = _another(int(window[0, end - 1]), separator_id)
            moved = _moved(masked, window, changed)
            own = moved[start : end + 1]
            leak = float(torch.cat([moved[:start], moved[end + 1 :]]).max())
            without.append(float(_moved(plain, window, changed)[end + 1 :].max()))
            leaks = max(leaks, leak)
            where = f"of document {number} of 3 in a window of {length} tokens"
            if leak != 0.0:
                cause = cause or f"another last token {where} changes the outputs of another document"
            elif not own[-1] > 0.0:
                cause = cause or f"the separator {where} does not see the token before it"
    if not cause and not min(without) > 0.0:
        cause = "without the mask no output behind the separator changes either, so that nothing is shown"
    return GateResult(
        id="model.documents",
        claim=claim,
        verdict=verdict_of(not cause),
        figure=leaks,
        limit=0,
        cause=cause,
        facts={"lengths": tried, "change_without_mask": min(without), "separator_id": separator_id},
    )


def _three_documents(ids: Sequence[int], separator_id: int, length: int) -> tuple[Tensor, tuple[int, int]]:
    """A window [1, length] of three documents, and where the separators of the first two stand."""
    plain = [_another(token, separator_id) if token == separator_id else token for token in ids]
    window = torch.tensor([list(islice(cycle(plain), length))], dtype=torch.int64)
    ends = length // 3, 2 * length // 3
    window[0, list(ends)] = separator_id
    return window, ends


def _another(token: int, separator_id: int) -> int:
    """Another id, and no separator."""
    return next(other for other in range(3) if other not in (token, separator_id))


def _moved(forward: Forward, window: Tensor, changed: Tensor) -> Tensor:
    """How far each position's output moves, at most: [T]."""
    difference = forward(window).cpu().double() - forward(changed).cpu().double()
    return torch.nan_to_num(difference.abs().amax(-1)[0], nan=torch.inf)


def alone_gate(together: float, alone: float, num_documents: int) -> GateResult:
    """Judge that a window's loss is that of its documents, each evaluated alone and without a mask.

    Args:
        together: mean loss of the window as validation computes it, nats per token, in fp32.
        alone: the same tokens' mean, each document by itself.
        num_documents: in the window.
    """
    gap = abs(together - alone)
    holds = gap <= ALONE_TOLERANCE
    return GateResult(
        id="loss.documents",
        claim=BY_ID["loss.documents"].asks,
        verdict=verdict_of(holds),
        figure=gap,
        limit=ALONE_TOLERANCE,
        cause=""
        if holds
        else f"a validation window scores {together:.6f} nats, and its documents alone {alone:.6f}",
        facts={
            "together": together,
            "alone": alone,
            "num_documents": num_documents,
            "unit": "nats per token",
        },
    )
