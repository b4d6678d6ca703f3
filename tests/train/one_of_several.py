"""One process of a run, with a defect planted in it: `python one_of_several.py DEFECT STOP_AFTER ARGUMENTS...`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch

from apr.cli.main import entry
from apr.data.batches import BatchStream
from apr.train import run as run_module
from apr.train.ranks import Ranks

RANK = int(os.environ.get("RANK", "0"))


def not_summed(self: Ranks, parameters: Any) -> None:
    """Leave every process its own gradients."""


def averaged(self: Ranks, parameters: Any) -> None:
    """Average the gradients, as DistributedDataParallel does, where the loss is scaled for a sum already."""
    own = list(parameters)
    _sum(self, own)
    for parameter in own:
        parameter.grad /= self.num


_sum = Ranks.sum_gradients
_certify = run_module.certify


def other_weights(*arguments: Any) -> Any:
    """Change one weight of one process after it was judged."""
    zero = _certify(*arguments)
    if RANK == 1:
        with torch.no_grad():
            next(zero.decoder.parameters()).view(-1)[5] += 1e-6
    return zero


def same_share(self: BatchStream, num_batches: int, rank: int = 0, num_ranks: int = 1) -> Any:
    """Give every process the first one's windows."""
    return _next_step(self, num_batches, 0, num_ranks)


_next_step = BatchStream.next_step


def killed(*arguments: Any) -> Any:
    """Die as if for want of memory."""
    if RANK == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return _certify(*arguments)


DEFECTS: dict[str, tuple[Any, str, Any]] = {
    "not-summed": (Ranks, "sum_gradients", not_summed),
    "averaged": (Ranks, "sum_gradients", averaged),
    "other-weights": (run_module, "certify", other_weights),
    "same-share": (BatchStream, "next_step", same_share),
    "killed": (run_module, "certify", killed),
}


def stop_after(step: int) -> None:
    """Send the last process SIGTERM when it has made so many updates."""
    updates = run_module.updates

    def counted(*arguments: Any, **more: Any) -> Any:
        for update in updates(*arguments, **more):
            if update.step == step and int(os.environ.get("WORLD_SIZE", "1")) - 1 == RANK:
                os.kill(os.getpid(), signal.SIGTERM)
            yield update

    run_module.updates = counted  # type: ignore[assignment]


if __name__ == "__main__":
    defect, stop, *arguments = sys.argv[1:]
    if defect in DEFECTS:
        place, name, function = DEFECTS[defect]
        setattr(place, name, function)
    if int(stop):
        stop_after(int(stop))
    sys.exit(entry(arguments))
