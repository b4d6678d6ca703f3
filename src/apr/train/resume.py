"""Going on with a run: which state, which plan, which inputs; everything is refused that would make it another run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from apr.aprfile.reader import open_apr
from apr.arch.lora import parse_lora
from apr.base.errors import AprError
from apr.base.files import read_json, sha256_bytes
from apr.stepzero.verify import verify_certificate
from apr.train.checkpoint import best_of, point_to_best
from apr.train.errors import NothingToResume, ResumeDiffers
from apr.train.loggers import recorded_loggers
from apr.train.plan import RunPlan
from apr.train.run_dir import RunDir
from apr.train.run_state import RunState, clear_unfinished, read_state, saved_steps
from apr.train.spec import RunSpec

ENDED = ("TARGET_MET", "BUDGET_DONE", "EARLY_STOP")  # words of a run that nothing stopped
INPUTS, CERTIFICATE = "inputs.json", "certificate.json"
_PATHS = ("init", "dataset", "tokenizer", "val_shard")
# Of a certificate's inputs, and the option that names each.
_ROLES = {
    "init": "init",
    "config": "arch",
    "tokenizer": "tokenizer",
    "train": "dataset",
    "validation": "val_shard",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """A run that is to go on."""

    spec: RunSpec  # with the paths that the run had, where none were given
    plan: RunPlan  # the run's own
    state: RunState | None  # None where nothing was saved yet: it begins again
    certificate: dict[str, Any] | None  # of its start; None where it was killed before that
    given: RunSpec  # as it was asked for


def record_inputs(spec: RunSpec) -> dict[str, Any]:
    """Where the inputs are, for a resume; no digest covers it, since the same files may lie elsewhere then."""
    paths = {name: getattr(spec, name) for name in _PATHS}
    return {
        "format": "apr-inputs-1",
        "arch": spec.arch,
        **{name: None if path is None else str(path.absolute()) for name, path in paths.items()},
    }


def open_resumption(spec: RunSpec) -> Resumption:
    """Find out what a run directory can be resumed from; call it while holding the directory.

    Raises:
        NothingToResume: no run began there, or it has ended.
        ResumeDiffers: an option contradicts the run's plan.
        StateBad: the last state is damaged.
    """
    run_dir = spec.run_dir
    plan = _read_plan(run_dir)
    _require_unfinished(run_dir)
    _require_same(spec, plan)
    clear_unfinished(run_dir)
    steps = saved_steps(run_dir)
    if not steps:
        _require_no_checkpoints(run_dir)
    state = read_state(run_dir, steps[-1]) if steps else None
    return Resumption(
        spec=_with_inputs(spec),
        plan=plan,
        state=state,
        certificate=_read_certificate(run_dir) if state or (run_dir / CERTIFICATE).is_file() else None,
        given=spec,
    )


def _with_inputs(spec: RunSpec) -> RunSpec:
    """The spec with the paths that the run had, where none are given now."""
    recorded = read_json(spec.run_dir / INPUTS, "list of inputs", "apr pretrain")
    odd = [name for name in (*_PATHS, "arch") if not isinstance(recorded.get(name), str | None)]
    if odd:
        raise NothingToResume(path=str(spec.run_dir), reason=f"its {INPUTS} has no path as {odd[0]}")
    had = {name: Path(recorded[name]) if recorded.get(name) else None for name in _PATHS}
    return replace(
        spec,
        init=spec.init or had["init"],
        dataset=spec.dataset or had["dataset"],
        tokenizer=spec.tokenizer or had["tokenizer"],
        val_shard=spec.val_shard or had["val_shard"],
        arch=spec.arch or recorded.get("arch"),
        log=spec.log or recorded_loggers(spec.run_dir),
    )


def _read_plan(run_dir: Path) -> RunPlan:
    path = run_dir / "plan.json"
    if not path.is_file():
        raise NothingToResume(path=str(run_dir), reason="it holds no plan.json, so no run began there")
    try:
        document = read_json(path)
        plan = RunPlan.from_dict(document)
    except (AprError, ValueError) as error:
        raise NothingToResume(path=str(run_dir), reason=f"its plan.json cannot be read: {error}") from error
    if plan.digest != document.get("digest"):
        raise NothingToResume(
            path=str(run_dir), reason="the values in its plan.json are not those of its digest"
        )
    if plan.synthetic:
        raise NothingToResume(path=str(run_dir), reason="the run is synthetic, and trained nothing")
    return plan


def _read_certificate(run_dir: Path) -> dict[str, Any]:
    """The certificate of the run's start, which says what it goes on with: only one that holds may."""
    path = run_dir / CERTIFICATE
    checks, document = verify_certificate(path.read_bytes()) if path.is_file() else ([], None)
    wrong = next((check for check in checks if check.verdict == "no"), None)
    if document is None or wrong is not None:
        told = "is missing" if wrong is None else f"does not hold: it is not so that {wrong.claim}"
        raise NothingToResume(path=str(run_dir), reason=f"its {CERTIFICATE} {told}")
    return document


def _require_unfinished(run_dir: Path) -> None:
    path = run_dir / "record.json"
    if not path.is_file():
        return  # killed
    record = read_json(path, "record of the run", "apr pretrain")
    outcome, steps = record.get("outcome"), record.get("steps")
    if outcome in ENDED:
        raise NothingToResume(path=str(run_dir), reason=f"the run ended as {outcome} after {steps} steps")
    if outcome in ("DIVERGED", "SPIKE"):
        told = "diverged" if outcome == "DIVERGED" else "met a spike"
        reason = f"the run {told} after {steps} steps, and would again: a resumed run repeats it to the bit"
        raise NothingToResume(path=str(run_dir), reason=reason)


def _require_no_checkpoints(run_dir: Path) -> None:
    """Beginning again removes checkpoints: only those of a first save may be there, which was killed at its end."""
    described = list(run_dir.glob("ckpt/epoch-*.metadata.json"))
    if len(described) > 1:
        reason = f"its states are gone, and beginning again would remove its {len(described)} checkpoints"
        raise NothingToResume(path=str(run_dir), reason=reason)


def _require_same(spec: RunSpec, plan: RunPlan) -> None:
    """Options may be repeated, and not changed: another value makes another run."""
    planned = {field.name for field in fields(plan)}
    for field in fields(spec):
        asked = getattr(spec, field.name)
        # An option that is a switch can only be left out; --set and a run file can say no.
        unasked = asked is None or (asked is False and field.name not in spec.places)
        if field.name not in planned or unasked:
            continue
        if field.name == "lora":
            asked = str(parse_lora(asked))  # the plan has it spelled out
        if asked != (value := getattr(plan, field.name)):
            raise ResumeDiffers(
                option=spec.source_of(field.name),
                asked=str(asked),
                planned=str(value),
                path=str(spec.run_dir),
            )


def require_lineage(resumption: Resumption) -> None:
    """With `--init` too, it must be the checkpoint that the run began from.

    Raises:
        ResumeDiffers: it is another.
    """
    asked, certificate = resumption.given.init, resumption.certificate
    if asked is None or certificate is None:
        return
    with open_apr(asked, "structure") as file:
        found = file.file_digest
    if found != (planned := certificate["inputs"]["init"]):
        raise ResumeDiffers(
            option="--init",
            asked=f"{asked} ({found[:12]})",
            planned="random weights" if planned is None else f"a checkpoint of digest {planned[:12]}",
            path=str(resumption.spec.run_dir),
        )


def spec_of_state(resumption: Resumption, state: RunState) -> RunSpec:
    """What a state is gone on from.

    The weights of a state bring config and tokenizer, and what the run began with is not needed again, but judged
    where it is given again; adapters stand beside the weights that the run began with.
    """
    spec, given = resumption.spec, resumption.given
    if resumption.plan.lora:
        return spec
    return replace(spec, init=spec.run_dir / state.weights, arch=given.arch, tokenizer=given.tokenizer)


def require_same_inputs(resumption: Resumption, digests: Mapping[str, str | None]) -> None:
    """Let a run that trained, and was killed before its first save, begin again from the same inputs only.

    Args:
        resumption: of a run without a state.
        digests: of the inputs as they are now, by role.

    Raises:
        ResumeDiffers: one is not what the certificate of the run's start says went in.
    """
    certificate, spec = resumption.certificate, resumption.spec
    if certificate is None or certificate["verdict"] == "no":
        return  # nothing was trained: what was refused may be mended
    for role, name in _ROLES.items():
        if (found := digests[role]) != (planned := certificate["inputs"].get(role)):
            raise ResumeDiffers(
                option=spec.source_of(name),
                asked=f"{getattr(spec, name)} ({_short(found)})",
                planned=_short(planned),
                path=str(spec.run_dir),
            )


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12]


def rewind(run_dir: RunDir, state: RunState | None) -> None:
    """Put the run directory back to where the state was saved; what came after is made again, to the byte.

    Raises:
        MetricsChanged: metrics.jsonl does not begin with what it then held.
    """
    if state is None:
        run_dir.rewind_metrics(0, sha256_bytes(b""), 0)
    else:
        run_dir.rewind_metrics(state.metrics_bytes, state.metrics_sha256, state.step)
    kept = set(state.books["checkpoints"]) if state is not None else set()
    for path in sorted(run_dir.checkpoints.glob("epoch-*")):
        stem = re.sub(r"\.(metadata\.json|apr|adapter)$", "", path.name)
        if f"ckpt/{stem}.apr" not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            run_dir.log(f"removed {path.name}: its save had not ended")
    best = None if state is None else best_of(state.books)
    if best is None:
        (run_dir.path / "best.json").unlink(missing_ok=True)
    else:
        point_to_best(run_dir.path, *best)
