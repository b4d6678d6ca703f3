"""Every gate is needed: with it switched off, a fault that it is there for gets through, as if nothing were wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apr.aprfile import metadata
from apr.aprfile.reader import AprFile, Checksums
from apr.arch.config import TransformerConfig
from apr.convert import hf_config, hf_source, safetensors_files
from apr.data import shards
from apr.model import load
from apr.stepzero.faults.catalogue import FAULTS
from apr.stepzero.gate import GateResult
from apr.stepzero.registry import BY_ID
from apr.tokenizer import special
from apr.train import checkpoint, inputs, run
from apr.workflows import falsify_plant, importing
from apr.workflows.falsify_plant import run_fault
from apr.workflows.falsify_scene import Scene

pytestmark = pytest.mark.usefixtures("one_thread")

Switch = Callable[[pytest.MonkeyPatch], None]
# Another program's labels come as they are; our own windows are cut here, and data.order judges them.
# Those of a loop that is not ours and of a resume have their own tests: test_guarded_loops, test_resumed_runs.
GATES_OF_A_RUN = {name for name, gate in BY_ID.items() if gate.stage != "resume"} - {"data.labels"}
BY_FAULT = {fault.id: fault for fault in FAULTS}


def verdict_off(gate_id: str) -> Switch:
    """Let a gate say yes whatever it found."""

    def switch(patch: pytest.MonkeyPatch) -> None:
        original = GateResult.__init__

        def init(self: GateResult, *, id: str, verdict: str, **rest: Any) -> None:
            original(self, id=id, verdict="yes" if id == gate_id else verdict, **rest)

        patch.setattr(GateResult, "__init__", init)

    return switch


def checks_off(*targets: tuple[Any, str, Any], gate_id: str = "") -> Switch:
    """Replace checks that raise while inputs are read, and let a gate that repeats them say yes."""

    def switch(patch: pytest.MonkeyPatch) -> None:
        for owner, name, replacement in targets:
            patch.setattr(owner, name, replacement)
        if gate_id:
            verdict_off(gate_id)(patch)

    return switch


def whatever(*args: Any, **kwargs: Any) -> None:
    return None


def unverified(file: AprFile, on_progress: Any = None) -> None:
    file.checksums = Checksums(header="ok", footer="ok", digests="ok")


def the_single_file(folder: Path) -> tuple[Path, ...]:
    return (folder / "model.safetensors",)


ANY_LENGTH = property(lambda config: ("max_position_embeddings", config.max_position_embeddings))

# Gates that speak through errors: a fault, and the checks without which it gets through.
CHECKS: dict[str, tuple[str, Switch]] = {
    "source.files": (
        "source.stale-single-file",
        checks_off(
            (safetensors_files, "weight_files", the_single_file),
            (safetensors_files, "_require_agreement", whatever),
        ),
    ),
    "source.config": ("source.unknown-key", checks_off((hf_config, "_refuse_unjudged", whatever))),
    "source.tensors": ("source.biases-unexpected", checks_off((hf_source, "require_cover", whatever))),
    "source.tokenizer": (
        "source.end-token-contradicted",
        checks_off((special, "_require_same_eos", whatever)),
    ),
    "source.trust": ("source.rope-base-changed", checks_off((importing, "read_manifest", whatever))),
    "plan.arguments": (
        "config.sliding-window",
        checks_off((TransformerConfig, "sequence_limit", ANY_LENGTH)),
    ),
    "file.container": ("container.footer", checks_off((AprFile, "verify", unverified))),
    "file.config": ("config.two-spellings", checks_off((metadata, "_check_typed_keys", whatever))),
    "weights.coverage": (
        "container.tensor-unexpected",
        checks_off((load, "require_coverage", whatever), (inputs, "require_coverage", whatever)),
    ),
    "tokens.tokenizer": (
        "tokenizer.other-shards",
        checks_off((inputs.Inputs, "_check_dataset", whatever), gate_id="tokens.tokenizer"),
    ),
    "tokens.shards": ("shards.extra", checks_off((shards, "_check_structure", whatever))),
    "tokens.ids": (
        "shards.greater-id",
        checks_off((inputs.Inputs, "_check_dataset", whatever), gate_id="tokens.ids"),
    ),
    "run.steps": ("order.tokens-missed", checks_off((run.Run, "_require_all_consumed", whatever))),
    "checkpoint.saved": (
        "checkpoint.stale-tensor",
        checks_off((checkpoint.np, "array_equal", lambda left, right: True)),
    ),
    "checkpoint.record": (
        "checkpoint.certificate-edited",
        checks_off((falsify_plant, "require_verified", whatever)),
    ),
}
# Gates that judge: a fault that no other gate sees.
JUDGES: dict[str, str] = {
    "tokens.split": "shards.validation-trained-on",
    "tokens.sample": "shards.other-ids",
    "tokens.probe": "tokenizer.ids-shifted-everywhere",
    "tokens.statistics": "shards.clamped-ids",
    "tokens.eos": "shards.other-separator",
    "data.order": "order.not-shuffled",
    "data.documents": "documents.of-the-batch-before",
    "model.documents": "documents.no-mask-when-short",
    "loss.documents": "documents.not-in-validation",
    "weights.memory": "loader.one-bit",
    "weights.values": "container.own-head",
    "adapters.start": "subset.a-unseeded",
    "adapters.merge": "subset.merge-scale",
    "model.built": "forward.from-one",
    "model.placement": "forward.other-type",
    "reference.blocks": "container.reference-cut",
    "reference.loss": "forward.logits-halved",
    "reference.training": "forward.loss-shifted-twice",
    "model.repeatable": "forward.race",
    "model.causal": "forward.no-mask-when-short",
    "model.rows": "forward.mixed-rows",
    "loss.random_init": "forward.placeholder",
    "loss.step0": "forward.too-bad",
    "optimizer.settings": "optimizer.betas",
    "optimizer.schedule": "schedule.long-horizon",
    "update.gradients": "optimizer.gradients-kept",
    "update.changes": "optimizer.rate-vanishes",
    "update.size": "optimizer.half-rate",
    "update.loss": "optimizer.loss-invented",
    "update.slope": "optimizer.last-micro-batch",
    "optimizer.fresh": "optimizer.used-before",
    "weights.untouched": "loader.redrawn-later",
    "log.messages": "loader.warns",
}
# What a fault that got through may still end in, behind step zero: a crash is no refusal.
CRASHES = {"shards.greater-id": "IndexError", "forward.other-type": "RuntimeError"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, tiny_apr: Path, tiny_shards: Path) -> Scene:
    return Scene(model=tiny_apr, dataset=tiny_shards, folder=tmp_path_factory.mktemp("scene"))


def test_every_gate_is_asked_for() -> None:
    assert set(CHECKS) | set(JUDGES) == GATES_OF_A_RUN
    assert not set(CHECKS) & set(JUDGES)


@pytest.mark.parametrize("gate_id", sorted(GATES_OF_A_RUN))
def test_without_the_gate_a_fault_gets_through(scene: Scene, gate_id: str) -> None:
    fault_id, switch = CHECKS.get(gate_id) or (JUDGES[gate_id], verdict_off(gate_id))
    fault = BY_FAULT[fault_id]
    assert fault.gate == gate_id
    with warnings.catch_warnings(action="ignore"):
        refused = run_fault(fault, scene)
        with pytest.MonkeyPatch.context() as patch:
            switch(patch)
            through = run_fault(fault, scene)
    assert refused.planted
    assert refused.gate == gate_id, refused.message
    assert through.gate is None, through.message
    assert through.message == "" or CRASHES.get(fault_id, "?") in through.message
