"""Step zero for another program's loop: its module, loss, optimizer and first batches, judged before step 1.

Nothing of it is replaced and nothing is left changed: one update is made with the loop's own parts and taken back bit
for bit, with moments, gradients, random states and training flags. What such a loop does besides (its accumulation,
clipping, schedule, order of data) is not seen here, and the certificate says so gate by gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from apr.base.files import write_json
from apr.stepzero.certificate import Certificate
from apr.stepzero.errors import StepZeroIncomplete, StepZeroRefused
from apr.stepzero.gate import spelled
from apr.stepzero.guard_batches import cross_entropy_of, read_batch
from apr.stepzero.guard_court import Court
from apr.stepzero.guard_kept import undisturbed
from apr.stepzero.guard_loop import Encode, Known, Loop, open_known
from apr.stepzero.guard_module import default_blocks
from apr.stepzero.guard_optimizer import Planned, inner_optimizer
from apr.stepzero.guard_weights import file_names
from apr.stepzero.messages import capturing, messages_gate
from apr.stepzero.reference import Reference

__all__ = ["Planned", "guard", "write_certificate"]

# ids int64 [B, T] -> logits [B, T, V], or an object that has them as `logits`
Forward = Callable[[Tensor], Any]
Loss = Callable[[Any], Tensor]  # a batch of the loop -> mean loss over its targets, nats per token


def guard(
    module: nn.Module,
    forward: Forward,
    optimizer: torch.optim.Optimizer,
    *,
    batches: Iterable[Any],
    reference: str | Path | Reference | None = None,
    loss: Loss | None = None,
    forward_fp32: Forward | None = None,
    blocks: Mapping[str, nn.Module] | None = None,
    encode: Encode | None = None,
    rename: Callable[[str], str] = str,
    labels_shifted: bool = False,
    planned: Planned = Planned(),  # noqa: B008  # frozen
    certificate_path: Path | str | None = None,
    refuse: bool = True,
) -> Certificate:
    """Judge a loop before its first step, and refuse it when anything is wrong.

    Args:
        module: to be trained, with its weights loaded; on any device.
        forward: ids int64 [B, T] -> logits [B, T, V], as training computes them.
        optimizer: that will train it, not used yet.
        batches: a few, as the loop will give them to its loss: mappings with `input_ids` and `labels`, or pairs.
        reference: an `.apr` file that `apr import` made, or a reference alone, or None for a loss within a band.
        loss: the loop's own, a batch -> its mean loss; None for the cross-entropy of `forward`.
        forward_fp32: as `forward` but in fp32, where `forward` computes in a narrower type.
        blocks: submodules whose outputs are hidden states [B, T, D], by the reference's names (`embedding`, `block.0`,
            `final_norm`) and in its order; None for those of a transformers-style module.
        encode: the tokenizer that made the batches, text -> ids without special ones.
        rename: a parameter's name -> its name in the file, which is Hugging Face's.
        labels_shifted: whether the label at a position is the token after it, not the token there.
        planned: what the loop means to do, as far as it is to be compared.
        certificate_path: where to write the certificate, also that of a refusal.
        refuse: False to have the certificate back whatever its verdict, which the caller then heeds.

    Returns:
        The certificate; its verdict is yes. The judgement ends with the first phase that holds a no.

    Raises:
        StepZeroRefused: a gate said no. No step was made, and everything is as it was.
        StepZeroIncomplete: a gate was not reached, which no loop can cause.
        AprError: the `.apr` file cannot be read.
        ValueError: there is no batch.
    """
    run = _placed(module, forward)
    given = loss
    loop = Loop(
        module=module,
        forward=run,
        forward_fp32=None if forward_fp32 is None else _placed(module, forward_fp32),
        optimizer=inner_optimizer(optimizer),
        loss=cross_entropy_of(run, labels_shifted) if given is None else lambda batch: given(batch.given),
        is_own_loss=given is not None,
        batches=tuple(read_batch(batch) for batch in batches),
        blocks=default_blocks(module) if blocks is None else blocks,
        encode=encode,
        labels_shifted=labels_shifted,
        planned=planned,
        parameters=file_names(module, rename),
    )
    if not loop.batches:
        raise ValueError("batches is empty, and without one there is nothing to rehearse with")
    with ExitStack() as stack:
        certificate = _judge(loop, open_known(stack, reference))
    if certificate_path is not None:
        write_certificate(certificate_path, certificate)
    if refuse:
        _heed(certificate)
    return certificate


def write_certificate(path: Path | str, certificate: Certificate) -> None:
    """Write a certificate as `apr verify` reads it."""
    write_json(Path(path), certificate.to_dict())


def _judge(loop: Loop, known: Known) -> Certificate:
    court = Court(loop, known)
    with capturing() as captured, undisturbed(loop.module):
        court.judge()
    court.add(lambda: messages_gate(captured, court.gates, "while the loop was judged"))
    return court.seal()


def _heed(certificate: Certificate) -> None:
    if (no := certificate.first_refusal) is not None:
        raise StepZeroRefused(
            gate=no.id, cause=no.cause, figure=spelled(no.figure), limit=spelled(no.limit), guarded=True
        )
    if certificate.verdict != "yes":
        raise StepZeroIncomplete(gates=", ".join(certificate.not_judged))


def _placed(module: nn.Module, forward: Forward) -> Callable[[Tensor], Tensor]:
    """The forward pass, with ids brought to the module's device."""
    device = next(module.parameters()).device

    def run(ids_BT: Tensor) -> Tensor:
        out = forward(ids_BT.to(device))
        logits: Tensor = out if isinstance(out, Tensor) else out.logits
        return logits

    return run
