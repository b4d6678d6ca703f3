"""Several faults at once, each worker a process of its own: what is planted in one is not seen in another."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from apr.arch.config import TransformerConfig
from apr.arch.counts import parameter_count
from apr.base.environment import (
    available_memory_bytes,
    cpu_count,
    give_freed_memory_back,
    keep_freed_memory,
)
from apr.base.errors import EXIT_NO_ANSWER, AprError
from apr.stepzero.faults.catalogue import FAULTS
from apr.stepzero.faults.fault import Fault
from apr.workflows.falsify_controls import CONTROLS, Control, run_control
from apr.workflows.falsify_plant import run_fault
from apr.workflows.falsify_scene import Scene

# Of a run: weights, gradients, moments, a second model as control, what a save and an import hold; and the libraries.
_BYTES_A_PARAMETER = 28
_BYTES_A_PROCESS = 1 << 30

Row = dict[str, Any]


@dataclass(kw_only=True, eq=False)
class WorkerLost(AprError):
    """A process of `apr falsify` was ended from outside, most likely for want of memory."""

    id = "APR008"
    text = "one of the {jobs} processes of apr falsify was ended by the system"
    help = "it may have lacked memory: give --jobs 1"
    exit_code = EXIT_NO_ANSWER
    jobs: int


_scene: Scene | None = None  # of a worker


def affordable_jobs(config: TransformerConfig) -> int:
    """How many runs of a model this machine can make at once: one a core, as far as memory goes."""
    available = available_memory_bytes()
    if available is None:
        return 1
    one = _BYTES_A_PARAMETER * parameter_count(config) + _BYTES_A_PROCESS
    return max(1, min(cpu_count(), available // one))


def rows_of(
    items: Sequence[Fault | Control], scene: Scene, jobs: int
) -> Iterator[tuple[Fault | Control, Callable[[], Row]]]:
    """Run faults and controls.

    Args:
        items: of the catalogue, where there are several processes: they are handed over by their ids.
        scene: what they are planted in.
        jobs: processes; 1 for this one.

    Yields:
        Each as it is begun or waited for, in order, with a call that gives its row, or raises WorkerLost.
    """
    if jobs == 1:
        for item in items:
            yield item, partial(_row, item, scene)
        return
    arguments = (scene.model, scene.dataset, scene.folder, max(1, cpu_count() // jobs))
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, arguments) as pool:
        try:
            begun: list[Future[Row]] = [pool.submit(_row_in_worker, item.id) for item in items]
            for item, future in zip(items, begun, strict=True):
                yield item, partial(_result, future, jobs)
        finally:
            pool.shutdown(cancel_futures=True)


def _result(future: Future[Row], jobs: int) -> Row:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise WorkerLost(jobs=jobs) from error


def _begin(model: Path, dataset: Path, folder: Path, num_threads: int) -> None:
    """Prepare a worker: a scene of its own in a folder of its own, and its share of the cores."""
    global _scene
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    torch.set_num_threads(num_threads)
    warnings.simplefilter("ignore")
    keep_freed_memory()
    _scene = Scene(model=model, dataset=dataset, folder=Path(tempfile.mkdtemp(prefix="worker-", dir=folder)))


def _row_in_worker(name: str) -> Row:
    assert _scene is not None
    items: tuple[Fault | Control, ...] = (*FAULTS, *CONTROLS)
    return _row(next(item for item in items if item.id == name), _scene)


def _row(item: Fault | Control, scene: Scene) -> Row:
    row = run_fault(item, scene).to_dict(item) if isinstance(item, Fault) else run_control(item, scene)
    give_freed_memory_back()  # the next run asks how much there is
    return row
