"""The reference that travels in a file: what its weights must give, as another implementation computed it.

`apr import` records it once, from the tensors as they are stored, so a training host needs no second implementation
and no network. At `--init` our forward pass must reproduce it: the loss within a tolerance, and every block's
figures, so that the first block that differs can be named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from apr.stepzero.errors import ReferenceMalformed, ReferenceNotFinite
from apr.stepzero.figures import NUM_PROJECTIONS, block_figures, relative_difference
from apr.stepzero.gate import GateResult, verdict_of

# Reports (block name, hidden [1, T, D]) while it computes; returns fp32 logits [1, T, V].
Trace = Callable[[Tensor, Callable[[str, Tensor], None]], Tensor]

# Measured on two real models over threads, batch shapes, kernels and types: docs/tolerance.md. Ten times the noise
# (1.2e-6 nats, 4.1e-6 of a block's size), and about a tenth of the weakest fault that nothing but parity sees (1.3e-4
# nats for a head computed in bf16, 3.7e-4 for one layer's softmax in bf16).
LOSS_TOLERANCE = 1.3e-5  # nats, fp32
# Nats between the reference and the loss that training minimises, in the compute type of the run. bf16 alone costs up
# to 1e-2 there, so that only gross faults of the loss itself show.
TRAINING_TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}
# Share of a block's standard deviation, fp32.
BLOCK_TOLERANCE = 4e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The probe's ids, its loss and the figures of every block."""

    grade: str  # "A": an independent implementation computed it; "B": we did
    oracle: str  # which one, with its version
    probe_ids: tuple[int, ...]
    loss: float  # nats per token, fp32 forward
    num_tokens: int
    blocks: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "probe_ids": list(self.probe_ids), "blocks": list(self.blocks)}


def parse_reference(value: dict[str, Any], source: str, vocab_size: int) -> Reference:
    """Read a recorded reference.

    Raises:
        ReferenceMalformed: a key is missing or a value is impossible.
    """
    try:
        reference = Reference(
            grade=value["grade"],
            oracle=str(value["oracle"]),
            probe_ids=tuple(int(i) for i in value["probe_ids"]),
            loss=float(value["loss"]),
            num_tokens=int(value["num_tokens"]),
            blocks=tuple(_parse_block(block) for block in value["blocks"]),
        )
    except KeyError as error:
        raise ReferenceMalformed(source=source, reason=f"it lacks {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ReferenceMalformed(source=source, reason=str(error)) from error
    reason = _implausible(reference, vocab_size)
    if reason:
        raise ReferenceMalformed(source=source, reason=reason)
    return reference


def _parse_block(value: Any) -> dict[str, Any]:
    """A block's figures, every one a finite number: a NaN or a missing one would not be compared."""
    figures = {key: float(value[key]) for key in ("mean", "std", "absmax")}
    projections = [float(item) for item in value["projections"]]
    if len(projections) != NUM_PROJECTIONS or not all(map(math.isfinite, [*figures.values(), *projections])):
        raise ValueError(f"in the figures of {value['name']!r}")
    return {"name": str(value["name"]), **figures, "projections": projections}


def _first_not_finite(loss: float, blocks: Sequence[dict[str, Any]]) -> str | None:
    for block in blocks:
        figures = (block["mean"], block["std"], block["absmax"], *block["projections"])
        if not all(map(math.isfinite, figures)):
            return f"the output of {block['name']}"
    return None if math.isfinite(loss) else "the loss"


def _implausible(reference: Reference, vocab_size: int) -> str | None:
    if reference.grade not in ("A", "B"):
        return f"its grade is {reference.grade!r}"
    if not math.isfinite(reference.loss) or reference.loss <= 0:
        return f"its loss is {reference.loss}"
    if len(reference.probe_ids) < 2 or reference.num_tokens != len(reference.probe_ids) - 1:
        return f"{len(reference.probe_ids)} probe ids cannot give {reference.num_tokens} predictions"
    if max(reference.probe_ids) >= vocab_size or min(reference.probe_ids) < 0:
        return f"a probe id is not below the vocabulary size {vocab_size}"
    return None


def measure(trace: Trace, probe_ids: Sequence[int]) -> tuple[float, list[dict[str, Any]]]:
    """Run the probe; returns its mean loss in nats (fp64 sum over an fp32 forward) and the figures of each block."""
    blocks: list[dict[str, Any]] = []
    ids = torch.tensor([list(probe_ids)], dtype=torch.int64)
    logits = trace(ids, lambda name, hidden: blocks.append(block_figures(name, hidden[0])))
    predicted = logits[0, :-1].double().cpu()
    losses = torch.logsumexp(predicted, dim=-1) - predicted.gather(1, ids[0, 1:, None])[:, 0]
    return float(losses.mean()), blocks


def record(trace: Trace, probe_ids: Sequence[int], *, grade: str, oracle: str) -> Reference:
    """Measure a reference.

    Raises:
        ReferenceNotFinite: the loss, or a figure of a block, is NaN or infinite.
    """
    loss, blocks = measure(trace, probe_ids)
    if odd := _first_not_finite(loss, blocks):
        raise ReferenceNotFinite(where=odd, oracle=oracle)
    return Reference(
        grade=grade,
        oracle=oracle,
        probe_ids=tuple(probe_ids),
        loss=loss,
        num_tokens=len(probe_ids) - 1,
        blocks=tuple(blocks),
    )


def compare(
    reference: Reference, loss: float, blocks: Sequence[dict[str, Any]]
) -> tuple[GateResult, GateResult]:
    """Judge a measured probe against its reference: the blocks, then the loss."""
    of_blocks = _blocks_gate(reference, blocks)
    return of_blocks, _loss_gate(reference, loss, blocks_agree=bool(blocks) and of_blocks.verdict == "yes")


def training_gate(reference: Reference, loss: float, dtype: str) -> GateResult:
    """The loss that training minimises, in its own code and compute type, equals the reference on the probe.

    Args:
        reference: recorded at import.
        loss: of the probe, by the training loss, nats per token.
        dtype: compute type, `fp32` or `bf16`.
    """
    limit = TRAINING_TOLERANCE[dtype]
    delta = abs(loss - reference.loss)
    return GateResult(
        id="reference.training",
        claim="the loss that training minimises equals the reference",
        verdict=verdict_of(delta <= limit),
        figure=delta,
        limit=limit,
        cause=""
        if delta <= limit
        else f"the training loss gives {loss:.4f} nats on the probe in {dtype} instead of {reference.loss:.4f}: "
        "the loss itself, or its shift by one token, is computed wrongly",
        facts={"loss": loss, "reference_loss": reference.loss, "dtype": dtype, "unit": "nats per token"},
    )


def _loss_gate(reference: Reference, loss: float, *, blocks_agree: bool) -> GateResult:
    delta = abs(loss - reference.loss)
    cause = ""
    if not delta <= LOSS_TOLERANCE:
        cause = (
            f"the weights give {loss:.4f} nats on the probe, and {reference.loss:.4f} were recorded at import"
        )
        if blocks_agree:
            cause += "; every block agrees, so the output head is not the one recorded"
    return GateResult(
        id="reference.loss",
        claim="the probe's loss equals the reference",
        verdict=verdict_of(delta <= LOSS_TOLERANCE),
        figure=delta,
        limit=LOSS_TOLERANCE,
        cause=cause,
        facts={
            "loss": loss,
            "reference_loss": reference.loss,
            "num_tokens": reference.num_tokens,
            "oracle": reference.oracle,
            "unit": "nats per token",
        },
    )


def _blocks_gate(reference: Reference, blocks: Sequence[dict[str, Any]]) -> GateResult:
    claim = "every block's hidden state equals the reference"
    names = [block["name"] for block in blocks]
    expected = [block["name"] for block in reference.blocks]
    if names != expected:
        found = f"{len(names)} blocks, the reference has {len(expected)}"
        return GateResult(
            id="reference.blocks", claim=claim, verdict="no", figure=found, limit=BLOCK_TOLERANCE,
            cause=f"the model reports {found}",
        )  # fmt: skip
    gaps = [relative_difference(want, have) for want, have in zip(reference.blocks, blocks, strict=True)]
    # `not (gap <= limit)`: a NaN figure differs.
    first = next((i for i, gap in enumerate(gaps) if not gap[1] <= BLOCK_TOLERANCE), None)
    facts: dict[str, Any] = {"num_blocks": len(blocks), "unit": "of the block's standard deviation"}
    cause = ""
    if first is not None:
        facts |= {"first_difference": names[first], "in": gaps[first][0], "difference": gaps[first][1]}
        told = f"{names[first]} is the first that differs, by {gaps[first][1]:.3g} of its size"
        cause = f"{told}: look at {where_to_look(names[first])}"
    worst = max((gap[1] for gap in gaps), key=lambda gap: math.inf if math.isnan(gap) else gap)
    return GateResult(
        id="reference.blocks",
        claim=claim,
        verdict=verdict_of(first is None),
        figure=worst if first is None else gaps[first][1],
        limit=BLOCK_TOLERANCE,
        cause=cause,
        facts=facts,
    )


def where_to_look(block: str) -> str:
    """What can make this the first block that differs, all before it being right."""
    if block == "embedding":
        return "the embedding's rows, their scale, or the ids looked up"
    if block == "final_norm":
        return "the final norm's weight or epsilon"
    if block == "block.0":
        return (
            "what every block shares (rotary positions, mask, heads, biases, norms, activation), "
            "and at the tensors of layer 0"
        )
    return f"the tensors of layer {block.removeprefix('block.')}, as the layers before it agree"
