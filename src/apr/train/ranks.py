"""The processes of a run: each holds the whole model and takes its share of every step's windows.

Started by torchrun or anything else that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. The plan says nothing of
processes: a step's windows, tokens and learning rate are the same on any number of them, so that a run may go on with
another number; only the order in which gradients are summed differs. The first process alone writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from apr.base.processes import Place, process_place
from apr.train.errors import RankLost, RanksDiffer

Found = TypeVar("Found")
_LEFT = "apr-first-process-left"
_PATIENCE = timedelta(seconds=60)  # the first process ends a save and writes its record meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The processes of a run as one of them sees them. With one, nothing is exchanged."""

    place: Place = field(default_factory=Place)
    # Where tensors must lie to be exchanged.
    exchange: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.place.rank == 0

    @property
    def num(self) -> int:
        """How many processes there are."""
        return self.place.num_ranks

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up every gradient over all processes, in place, to the same bits on each.

        Raises:
            RankLost.
        """
        if self.num == 1:
            return
        with _lost():
            work = [
                dist.all_reduce(parameter.grad, async_op=True)
                for parameter in parameters
                if parameter.grad is not None
            ]
            for each in work:
                each.wait()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up figures over all processes, one by one, in fp64.

        Raises:
            RankLost.
        """
        if self.num == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=self.exchange)
        with _lost():
            dist.all_reduce(together)
        return together.tolist()

    def any(self, flag: bool) -> bool:
        """Whether it is so on any process: all of them get one answer, and so do the same next."""
        return self.sum([float(flag)])[0] > 0

    def is_mine(self, number: int) -> bool:
        """Whether this process takes the item of that number, where they are dealt out one by one."""
        return number % self.num == self.place.rank

    def have_shared(self, planned: Sequence[int], taken: Sequence[int]) -> bool:
        """Whether the processes together took what was planned, each item once; told by sums over it.

        Raises:
            RankLost.
        """
        return self.sum(_sums(taken)) == _sums(planned)

    def wait(self) -> None:
        """Go on only when every process is here.

        Raises:
            RankLost.
        """
        self.sum([0.0])

    def in_turn(self, work: Callable[[], Found]) -> Found:
        """Do it on the first process, and then on the others: what the first one changes, they find changed."""
        if self.is_first:
            found = work()
        self.wait()
        if not self.is_first:
            found = work()
        self.wait()
        return found

    def require_same(self, facts: Mapping[str, str]) -> None:
        """Check that every process holds what the first one holds.

        Args:
            facts: a digest by what it is of.

        Raises:
            RanksDiffer: names the first process and thing that differ.
            RankLost.
        """
        if self.num == 1:
            return
        gathered: list[dict[str, str]] = [{} for _ in range(self.num)]
        with _lost():
            dist.all_gather_object(gathered, dict(facts))
        for rank, found in enumerate(gathered):
            for name, value in gathered[0].items():
                if found.get(name) != value:
                    raise RanksDiffer(
                        what=name, rank=rank, found=str(found.get(name))[:12], expected=value[:12]
                    )


def _sums(numbers: Sequence[int]) -> list[float]:
    """How many, and the sums of numbers and squares modulo a prime: whole in fp64 up to millions of numbers."""
    prime = (1 << 31) - 1
    return [
        float(len(numbers)),
        float(sum(number % prime for number in numbers)),
        float(sum(number * number % prime for number in numbers)),
    ]


@contextmanager
def joined() -> Iterator[Ranks]:
    """Meet the other processes of the run, if the environment says that there are any.

    When the block ends, the others wait until the first process has ended it too: a launcher stops all when one ends,
    and the first may still be writing.

    Raises:
        PlaceUnclear: the environment contradicts itself.
        RankLost: another process did not come.
    """
    place = process_place()
    if place.num_ranks == 1:
        yield Ranks(place=place)
        return
    has_cuda = torch.cuda.is_available()
    with _lost():
        store, _, _ = next(dist.rendezvous("env://"))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if has_cuda else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.num_ranks,
        )
    try:
        yield Ranks(place=place)
    finally:
        with suppress(RuntimeError):
            if place.rank == 0:
                store.set(_LEFT, "1")
            else:
                store.wait([_LEFT], _PATIENCE)
        with suppress(RuntimeError):
            dist.destroy_process_group()


@contextmanager
def _lost() -> Iterator[None]:
    """Tell every failure of an exchange as what it nearly always is: the other end is gone."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise RankLost(reason=(str(error).strip() or type(error).__name__).splitlines()[0]) from error


def weights_fingerprint(parameters: Mapping[str, Tensor]) -> str:
    """A checksum over the bits of every weight, as hexadecimal digits: cheap enough for every validation.

    The sum of each tensor's bits as integers, modulo 2^64: not proof against malice, and another for any one changed
    weight.

    Args:
        parameters: fp32, by name.
    """
    total = 0
    for name in sorted(parameters):
        bits = parameters[name].detach().contiguous().view(-1).view(torch.int32)
        total = (total * 1_000_003 + int(bits.sum(dtype=torch.int64))) % (1 << 64)
    return f"{total:016x}"
