"""Plant a fault, run what a user would run, and see who refuses it."""

from __future__ import annotations

import functools
import importlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apr.base.errors import AprError, Interrupted
from apr.stepzero.errors import StepZeroRefused
from apr.stepzero.faults.fault import MODEL, SHARDS, Fault, Patch
from apr.stepzero.registry import gate_of_error
from apr.train.errors import NotEnoughMemory
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent
from apr.train.spec import RunSpec
from apr.workflows.falsify_scene import Scene
from apr.workflows.importing import import_model
from apr.workflows.verifying import require_verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a run."""

    gate: str | None  # the gate that refused it; None when nothing did, or what did is no gate
    gates: tuple[str, ...]  # every gate that said no
    message: str  # the sentence the user would see; empty when nothing refused it
    planted: bool  # whether the defect was reached at all
    seconds: float

    def to_dict(self, fault: Fault) -> dict[str, Any]:
        """The row of the report."""
        return {
            "id": fault.id,
            "imitates": list(fault.imitates),
            "place": fault.place,
            "says": fault.says,
            "expected_gate": fault.gate,
            "caught_by": self.gate if self.planted else None,
            "gates": list(self.gates),
            "message": self.message
            or ("" if self.planted else "the defect was never reached, so nothing was tried"),
            "seconds": round(self.seconds, 2),
        }


def run_fault(fault: Fault, scene: Scene) -> Outcome:
    """Plant one fault in copies, and run the real code over it.

    Args:
        fault: to plant.
        scene: what the copies are made of; it stays as it is.
    """
    start = time.perf_counter()
    with scene.workplace() as folder:
        reached: list[str] = []
        try:
            with planted(fault.patches, reached):
                _carry_out(fault, scene, folder)
            found: tuple[str | None, str] = (None, "")
        except Interrupted:  # the user stops the whole command, not this fault
            raise
        except (
            NotEnoughMemory
        ) as error:  # of the machine, not of this fault: another process took it meanwhile
            found = (None, f"not tried: {error}")
        except AprError as error:
            found = (_gate_of(error, fault), str(error))
        except Exception as error:  # a crash is no refusal: the user would see a bug report
            found = (None, f"crashed with {type(error).__name__}: {error}")
        gates = _refusing_gates(folder)
    gate, message = found
    return Outcome(
        gate=gate,
        gates=tuple(dict.fromkeys([*([gate] if gate else []), *gates])),
        message=message,
        planted=fault.edit is not None or bool(reached),
        seconds=time.perf_counter() - start,
    )


def _gate_of(error: AprError, fault: Fault) -> str | None:
    if isinstance(error, StepZeroRefused):
        return error.gate
    return gate_of_error(error.id, at_import=fault.place == "source folder")


def _refusing_gates(folder: Path) -> list[str]:
    path = folder / "run" / "certificate.json"
    if not path.is_file():
        return []
    return [gate["id"] for gate in json.loads(path.read_bytes())["gates"] if gate["verdict"] == "no"]


def _carry_out(fault: Fault, scene: Scene, folder: Path) -> None:
    if fault.edit is None:
        pretrain(replace(scene.spec, run_dir=folder / "run", **fault.options), Silent())
        return
    match fault.place:
        case "source folder":
            source = shutil.copytree(scene.source, folder / "source")
            fault.edit(source)
            # A well-formed folder is imported as it is, unless somebody outside has said what it should be.
            manifest = scene.source_manifest if fault.gate == "source.trust" else None
            import_model(str(source), folder / MODEL, oracle="self", manifest_path=manifest)
        case "checkpoint":
            run_dir = _finished(fault, scene, folder)
            fault.edit(run_dir)
            require_verified(run_dir)
        case _:
            pretrain(_spoilt_spec(fault.edit, fault, scene, folder), Silent())


def _finished(fault: Fault, scene: Scene, folder: Path) -> Path:
    """The directory of a healthy run, with the options that the fault needs."""
    if not fault.options:
        return Path(shutil.copytree(scene.finished_run, folder / "finished"))
    pretrain(replace(scene.spec, run_dir=folder / "finished", **fault.options), Silent())
    return folder / "finished"


def _spoilt_spec(edit: Callable[[Path], None], fault: Fault, scene: Scene, folder: Path) -> RunSpec:
    """Copy what the edit needs, and no more: the user's own files are never touched."""
    spec = replace(scene.spec, run_dir=folder / "run")
    if fault.place in ("container", "config", "tokenizer"):
        assert spec.init is not None
        spec = replace(spec, init=Path(shutil.copyfile(spec.init, folder / MODEL)))
    if fault.place in ("shards", "tokenizer"):
        assert spec.dataset is not None
        spec = replace(spec, dataset=Path(shutil.copytree(spec.dataset, folder / SHARDS)))
    edit(folder if fault.place == "tokenizer" else folder / (SHARDS if fault.place == "shards" else MODEL))
    return spec


@contextmanager
def planted(patches: tuple[Patch, ...], reached: list[str]) -> Iterator[None]:
    """Put patches in place for the length of a block.

    Args:
        patches: what to replace.
        reached: gets the target of every replacement that was called.
    """
    with ExitStack() as stack:
        for patch in patches:
            owner, name, static = _resolve(patch.target)
            original = static if static is not None else getattr(owner, name)
            if isinstance(owner, type) and static is None:  # inherited: nothing of it may stay
                stack.callback(delattr, owner, name)
            else:
                stack.callback(setattr, owner, name, original)
            before = getattr(owner, name)
            setattr(owner, name, _noting(patch.wrap(before), before, patch.target, reached))
        yield


def _resolve(target: str) -> tuple[Any, str, Any]:
    """The object that holds what a target names, the name there, and the attribute as a class holds it."""
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name, vars(owner).get(name) if isinstance(owner, type) else None


def _noting(replacement: Any, original: Any, target: str, reached: list[str]) -> Any:
    # With the original's attributes: torch marks a step function that has its hooks.
    @functools.wraps(original)
    def noted(*args: Any, **kwargs: Any) -> Any:
        reached.append(target)
        return replacement(*args, **kwargs)

    return noted
