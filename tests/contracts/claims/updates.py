"""What one update must be: accumulation and clipping, on gradients that the loop itself made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from apr.data.batches import Batch
from apr.model.decoder import Decoder
from apr.train import loop
from apr.train.device import Compute
from apr.train.optimizer import build_optimizer
from apr.train.plan import resolve
from contracts.claims.training import spec_of
from contracts.scene import Scene
from tiny import CONFIG, make_weights

_CPU = Compute(device=torch.device("cpu"), dtype=torch.float32, note="")
_LENGTHS = (24, 5, 11, 1)


def _batch() -> Batch:
    ids = torch.randint(0, CONFIG.vocab_size, (4, 25), generator=torch.Generator().manual_seed(0))
    inputs, targets = ids[:, :-1].clone(), ids[:, 1:].clone()
    for row, length in enumerate(_LENGTHS):
        inputs[row, length:], targets[row, length:] = 0, -100
    return Batch(inputs_BT=inputs, targets_BT=targets, num_target_tokens=sum(_LENGTHS), window_indices=())


def _update(scene: Scene, batches: list[Batch], grad_clip: float) -> tuple[loop.Update, dict[str, Tensor]]:
    """An update of the tiny model, and the gradient that the optimizer was given."""
    module = Decoder(CONFIG)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in make_weights(CONFIG).items()})
    plan = resolve(spec_of(scene, grad_clip=grad_clip, warmup_steps=0))
    optimizer = build_optimizer(
        module.named_parameters(), lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay
    )
    given: dict[str, Tensor] = {}
    original = torch.optim.AdamW.step

    def stepped(self: Any, *arguments: Any) -> Any:
        given.update({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stepped)
        update = loop.make_update(module, optimizer, batches, 1, plan, _CPU)
    return update, given


def micro_batches_are_one_batch(scene: Scene) -> None:
    whole = _batch()
    pieces = [
        Batch(
            inputs_BT=whole.inputs_BT[i : i + 1],
            targets_BT=whole.targets_BT[i : i + 1],
            num_target_tokens=length,
            window_indices=(),
        )
        for i, length in enumerate(_LENGTHS)
    ]
    (one, left), (many, right) = _update(scene, [whole], 0.0), _update(scene, pieces, 0.0)
    assert abs(one.train_loss - many.train_loss) <= 1e-6 * one.train_loss, "another loss"
    assert max(float(gradient.abs().max()) for gradient in left.values()) > 1e-3
    for name, gradient in left.items():
        far = float((gradient - right[name]).abs().max())
        assert far <= 1e-6, f"another gradient of {name}, by {far:.2g}"


def gradients_are_clipped_before_the_update(scene: Scene) -> None:
    (free, raw), (clipped, used) = _update(scene, [_batch()], 0.0), _update(scene, [_batch()], 0.05)
    norm = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in raw.values()])))
    assert norm > 0.1  # there is something to clip
    assert clipped.grad_norm == free.grad_norm, "the logged norm is not that before clipping"
    for name, gradient in raw.items():
        far = float((gradient * (0.05 / norm) - used[name]).abs().max())
        assert far <= 1e-6, f"the update was made with another gradient of {name} than the clipped one"
