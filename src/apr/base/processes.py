"""Which process of a run this is, as a launcher such as torchrun says it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from apr.base.errors import PlaceUnclear

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which of a run's processes this one is."""

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0  # on this machine
    num_local_ranks: int = 1


def process_place() -> Place:
    """Read RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; one process where there is no WORLD_SIZE.

    Raises:
        PlaceUnclear: WORLD_SIZE says that there are others, and the rest does not fit.
    """
    num_ranks = os.environ.get("WORLD_SIZE", "1")
    if num_ranks == "1":
        return Place()
    for name in (*_NUMBERS, "MASTER_ADDR"):
        value = os.environ.get(name, "")
        if not value or (name in _NUMBERS and not value.isdecimal()):
            raise PlaceUnclear(name=name, value=value, num_ranks=num_ranks)
    rank, total, local, num_local = (int(os.environ[name]) for name in _NUMBERS[:4])
    for name, number, limit in (("RANK", rank, total), ("LOCAL_RANK", local, num_local)):
        if number >= limit:
            raise PlaceUnclear(name=name, value=str(number), num_ranks=num_ranks)
    return Place(rank=rank, num_ranks=total, local_rank=local, num_local_ranks=num_local)
