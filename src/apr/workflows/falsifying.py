"""`apr falsify`: plant every fault in copies of a checkpoint; each must be refused, and healthy runs must not."""

from __future__ import annotations

import fnmatch
import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apr.base.environment import keep_freed_memory
from apr.base.errors import BadOption
from apr.base.files import require_file
from apr.stepzero.faults.catalogue import FAULTS
from apr.stepzero.faults.fault import Fault
from apr.train.reporter import Reporter
from apr.workflows.falsify_controls import CONTROLS, Control
from apr.workflows.falsify_pool import affordable_jobs, rows_of
from apr.workflows.falsify_scene import Scene, encode_sample, tokenizer_in

BASELINE = "healthy.as-it-is"  # always run


def falsify(
    model: Path,
    reporter: Reporter,
    *,
    dataset: Path | None = None,
    only: Sequence[str] = (),
    quick: bool = False,
    work_dir: Path | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Plant faults in copies of a checkpoint and report which gate caught each.

    Args:
        model: the checkpoint; it is read and never written.
        reporter: told what is tried.
        dataset: token shards of its tokenizer; None encodes a part of Python's standard library.
        only: fault or control ids, `*` standing for anything; empty for all.
        quick: a representative part.
        work_dir: where the copies go; None for the system's temporary folder.
        jobs: runs at once, each in a process of its own; 1 for this one, 0 for as many as cores and memory allow.

    Returns:
        {planted, caught, missed, by_another_gate, healthy, false_alarms, seconds, faults, controls}.

    Raises:
        AprError: the checkpoint cannot be read, or has no tokenizer.
    """
    require_file(model, kind=".apr file", made_by="apr import")
    faults, controls = _chosen(only, quick)
    start = time.perf_counter()
    keep_freed_memory()
    folder = Path(tempfile.mkdtemp(prefix="apr-falsify-", dir=work_dir))
    try:
        shards = dataset or encode_sample(tokenizer_in(model), folder)
        scene = Scene(model=model.resolve(), dataset=shards.resolve(), folder=folder)
        with warnings.catch_warnings(
            action="ignore"
        ):  # what defects make libraries say; the certificates have it
            num_jobs = jobs or affordable_jobs(scene.config)
            rows, healthy = _run([*controls, *faults], scene, reporter, num_jobs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(rows, healthy, model, time.perf_counter() - start)


def _chosen(only: Sequence[str], quick: bool) -> tuple[list[Fault], list[Control]]:
    faults = [fault for fault in FAULTS if not quick or fault.quick]
    controls = [control for control in CONTROLS if not quick or control.quick]
    if only:
        faults = [fault for fault in faults if any(fnmatch.fnmatch(fault.id, pattern) for pattern in only)]
        chosen = [item for item in CONTROLS if any(fnmatch.fnmatch(item.id, pattern) for pattern in only)]
        # Where the run as it is would be refused, a fault that is refused shows nothing.
        controls = [item for item in CONTROLS if item.id == BASELINE or item in chosen]
        if not faults and not chosen:
            limit = "the id of a fault or a control; `apr falsify --list` prints them"
            raise BadOption(option="--only", value=", ".join(only), limit=limit)
    return faults, controls


def _run(
    items: Sequence[Fault | Control], scene: Scene, reporter: Reporter, jobs: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run everything that the model can carry; returns the rows of faults, and those of healthy runs."""
    able = [item for item in items if item.needs is None or item.needs(scene.config)]
    rows: list[dict[str, Any]] = []
    healthy: list[dict[str, Any]] = []
    for number, (item, run) in enumerate(rows_of(able, scene, jobs)):
        reporter.phase(item.id, number, len(able))
        row = run()
        if isinstance(item, Fault):
            rows.append(row)
            if row["caught_by"] is None:
                reporter.note(f"MISSED {item.id}: {item.says}; {row['message'] or 'the run went on'}")
        else:
            healthy.append(row)
            if row["alarm"] is not None:
                reporter.note(f"FALSE ALARM {item.id}: {row['alarm']}")
    return rows, healthy


def _report(
    rows: list[dict[str, Any]], healthy: list[dict[str, Any]], model: Path, seconds: float
) -> dict[str, Any]:
    missed = [row["id"] for row in rows if row["caught_by"] is None]
    return {
        "format": "apr-falsify-1",
        "model": str(model),
        "planted": len(rows),
        "caught": len(rows) - len(missed),
        "missed": missed,
        "by_another_gate": [
            row["id"] for row in rows if row["caught_by"] and row["expected_gate"] not in row["gates"]
        ],
        "healthy": len(healthy),
        "false_alarms": [row["id"] for row in healthy if row["alarm"] is not None],
        "seconds": round(seconds, 1),
        "faults": rows,
        "controls": healthy,
    }


def catalogue(only: Sequence[str] = ()) -> dict[str, Any]:
    """List what can be planted: {faults: [{id, imitates, place, gate, says, quick}], controls: [{id, says, quick}]}.

    Args:
        only: fault or control ids, `*` standing for anything; empty for all.

    Raises:
        BadOption: `only` names none.
    """
    faults, controls = _chosen(only, quick=False) if only else (FAULTS, CONTROLS)
    return {
        "faults": [
            {
                "id": fault.id,
                "imitates": list(fault.imitates),
                "place": fault.place,
                "gate": fault.gate,
                "says": fault.says,
                "quick": fault.quick,
            }
            for fault in faults
        ],
        "controls": [{"id": item.id, "says": item.says, "quick": item.quick} for item in controls],
    }
