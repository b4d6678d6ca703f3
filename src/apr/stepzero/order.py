"""The order of the data: what the first batches hold, and that the planned windows are each used once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from apr.data.batches import Batch
from apr.data.windows import IGNORED_TARGET
from apr.stepzero.gate import GateResult, verdict_of

Slice = Callable[[int, int], np.ndarray]  # tokens from start to stop

LOOKED_AT = 4096  # planned windows
_DIGESTED = 1 << 16  # planned windows; the order is arithmetic, and a run may be of any length
_SHUFFLED_FROM = 16  # windows: below, an order may be ascending by chance


def digested_batches(num_batches: int, batch_size: int) -> int:
    """How many of a run's batches the digest of its order covers: 65,536 windows, and one batch at least."""
    return min(num_batches, max(1, _DIGESTED // batch_size))


def order_gate(
    *,
    batches: Sequence[Batch],
    planned: np.ndarray,
    num_windows: int,
    seq_length: int,
    total_tokens: int,
    read: Slice,
    digest: str,
    asked: tuple[int, int],
    begins_at: int,
) -> GateResult:
    """The batches that the loop will get hold the windows that the order names, shifted by one, each window once.

    Args:
        batches: the first ones, from the stream that the loop will use.
        planned: window indices of the first LOOKED_AT windows of the run, in order.
        num_windows: windows in the dataset.
        seq_length: predicted tokens a window, T.
        total_tokens: in the dataset.
        read: reads tokens of the dataset.
        digest: sha256 over the order of the run's first `digested_batches`.
        asked: (windows a batch, batch size asked for).
        begins_at: windows that the stream counts as consumed.
    """
    cause = f"the data begin at window {begins_at} of the order" if begins_at else ""
    cause = cause or _first_wrong(batches, planned, num_windows, seq_length, total_tokens, read, asked)
    return GateResult(
        id="data.order",
        claim="the first batches are the planned windows, and each window comes once an epoch, shuffled",
        verdict=verdict_of(not cause),
        figure=int(bool(cause)),
        limit=0,
        cause=cause,
        facts={"order_sha256": digest, "num_batches_read": len(batches), "num_windows": num_windows},
    )


def _first_wrong(
    batches: Sequence[Batch],
    planned: np.ndarray,
    num_windows: int,
    seq_length: int,
    total_tokens: int,
    read: Slice,
    asked: tuple[int, int],
) -> str:
    if asked[0] != asked[1]:
        return f"a batch has {asked[0]} windows, and {asked[1]} were asked for"
    if cause := _order_defect(planned, num_windows):
        return cause
    indices = [index for batch in batches for index in batch.window_indices]
    if indices != [int(i) for i in planned[: len(indices)]]:
        return "the first batches hold other windows than the order names"
    for number, batch in enumerate(batches):
        for row, index in enumerate(batch.window_indices):
            start = index * seq_length
            count = min(seq_length, total_tokens - 1 - start)
            tokens = read(start, start + count + 1).astype(np.int64)
            inputs, targets = batch.inputs_BT[row].numpy(), batch.targets_BT[row].numpy()
            where = f"row {row} of batch {number}"
            if not np.array_equal(inputs[:count], tokens[:-1]):
                return f"the inputs in {where} are not the tokens of window {index}"
            if not np.array_equal(targets[:count], tokens[1:]):
                return f"the targets in {where} are not the inputs' next tokens"
            if (targets[count:] != IGNORED_TARGET).any():
                return f"padding in {where} is trained on"
        num_targets = int((batch.targets_BT >= 0).sum())
        if batch.num_target_tokens != num_targets:
            return f"batch {number} counts {batch.num_target_tokens} targets and has {num_targets}"
    return ""


def _order_defect(planned: np.ndarray, num_windows: int) -> str:
    if planned.size and (planned.min() < 0 or planned.max() >= num_windows):
        return f"the order names window {int(planned.max())} of {num_windows}"
    epoch = planned[:num_windows]  # the first one; a second may repeat its windows
    repeated = len(epoch) - len(np.unique(epoch))
    if repeated:
        return f"{repeated} of the first {len(epoch)} windows come twice in one epoch"
    if len(epoch) >= _SHUFFLED_FROM and (np.diff(epoch) == 1).mean() > 0.5:
        return "the windows come in the order of the text, not shuffled"
    return ""
