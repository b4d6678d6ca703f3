"""Whole runs of the tiny model: what they write is what happened (INV-TRAIN-001 to 013)."""

from __future__ import annotations

import hashlib
import json
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import open_apr
from apr.base.errors import AprError, Interrupted
from apr.base.files import canonical_json, sha256_bytes
from apr.evals.loss import EvalLoss
from apr.stepzero.errors import StepZeroRefused
from apr.train import certify as certify_module
from apr.train import checkpoint as checkpoint_module
from apr.train import fit as fit_module
from apr.train import loop as loop_module
from apr.train import run as run_module
from apr.train.errors import (
    CheckpointDiffers,
    LossDiverged,
    NotFinite,
    TokensMiscounted,
    TooFewWindows,
    WindowsMisdealt,
)
from apr.train.estimate import estimate
from apr.train.plan import resolve
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent, StepFigures
from apr.train.run_state import read_state, state_name
from apr.train.spec import RunSpec
from apr.workflows.evaluating import evaluate_model
from tiny import make_model, read_json

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK: dict[str, Any] = {
    "num_steps": 5, "batch_size": 2, "seq_length": 32, "grad_accum": 2, "steps_per_epoch": 2,
    "val_tokens": 256, "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 2,
}  # fmt: skip


# The gates of a certificate, in order.
TOKENS = (
    "tokens.tokenizer",
    "tokens.ids",
    "tokens.split",
    "tokens.statistics",
    "tokens.sample",
    "tokens.eos",
)
MODULE = ("model.built", "model.placement", "model.repeatable", "model.causal", "model.rows")
UPDATE = (
    *("optimizer.settings", "optimizer.schedule", "data.order", "update.gradients", "update.changes"),
    *("update.size", "update.loss", "update.slope", "optimizer.fresh"),
)


@dataclass(frozen=True)
class Ran:
    """A finished run."""

    spec: RunSpec
    record: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.spec.run_dir

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]

    def epoch(self, number: int) -> dict[str, Any]:
        return read_json(self.path / "ckpt" / f"epoch-{number:03d}.metadata.json")


Runner = Callable[..., Ran]


@pytest.fixture(scope="module")
def run(
    one_thread: None, tiny_apr: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Runner:
    """Run the tiny model with changes; an error comes through."""

    def start(reporter: Any = None, run_dir: Path | None = None, **changes: Any) -> Ran:
        run_dir = run_dir or tmp_path_factory.mktemp("runs") / "run"
        given = {"init": tiny_apr, "dataset": tiny_shards, "run_dir": run_dir, **QUICK, **changes}
        spec = RunSpec(**given)
        return Ran(spec, pretrain(spec, reporter or Silent()))

    return start


@pytest.fixture(scope="module")
def ran(run: Runner) -> Ran:
    return run()


# --- what a run writes ---------------------------------------------------------------------------


def test_every_step_is_logged_as_it_was(ran: Ran) -> None:
    """INV-TRAIN-001, 008."""
    plan = resolve(ran.spec)
    assert [line["step"] for line in ran.metrics] == [1, 2, 3, 4, 5]
    for index, line in enumerate(ran.metrics):
        assert set(line) == {
            *("step", "train_loss", "grad_norm", "lr", "tokens_per_sec", "gpu_util_pct", "tokens_seen")
        }
        assert line["lr"] == plan.learning_rate(index)
        assert line["gpu_util_pct"] is None
        assert all(0 < line[key] < math.inf for key in ("train_loss", "grad_norm", "tokens_per_sec"))
        assert line["tokens_seen"] <= (index + 1) * 2 * 2 * 32


def test_every_epoch_has_its_metadata(ran: Ran) -> None:
    """INV-TRAIN-002."""
    for number, steps in ((1, (0, 2)), (2, (2, 4)), (3, (4, 5))):
        found, lines = ran.epoch(number), ran.metrics[slice(*steps)]
        assert set(found) == {
            *("epoch", "step", "train_loss", "val_loss", "val_standard_error", "train_ppl", "val_ppl"),
            *(
                "val_gain_noise",
                "optimizer_state_sha",
                "file_digest",
                "wall_seconds",
                "tokens_seen",
                "grad_norm_max",
            ),
        }
        assert (found["epoch"], found["step"]) == (number, steps[1])
        assert found["tokens_seen"] == lines[-1]["tokens_seen"]
        assert found["grad_norm_max"] == max(line["grad_norm"] for line in lines)
        assert min(line["train_loss"] for line in lines) <= found["train_loss"]
        assert found["train_loss"] <= max(line["train_loss"] for line in lines)
        assert found["train_ppl"] == pytest.approx(math.exp(found["train_loss"]))
        assert found["val_ppl"] == pytest.approx(math.exp(found["val_loss"]))
        with open_apr(ran.path / "ckpt" / f"epoch-{number:03d}.apr") as file:
            assert file.file_digest == found["file_digest"]


def test_the_optimizers_digest_is_the_files(ran: Ran) -> None:
    """INV-TRAIN-003."""
    last = ran.path / state_name(ran.epoch(3)["step"])
    content, progress = (last / "optimizer.safetensors").read_bytes(), read_json(last / "progress.json")
    assert hashlib.sha256(content).hexdigest() == ran.epoch(3)["optimizer_state_sha"]
    assert progress["optimizer_state_sha"] == ran.epoch(3)["optimizer_state_sha"]
    assert (progress["step"], progress["epoch"], progress["cursor"]) == (5, 3, 5 * 4)
    assert ran.epoch(1)["optimizer_state_sha"] != ran.epoch(2)["optimizer_state_sha"]


def test_a_checkpoint_evaluates_to_the_loss_that_was_logged(ran: Ran, tiny_shards: Path) -> None:
    """Resume parity (S-35): the saved file, loaded by another command, gives the loss of the run."""
    for number in (1, 3):
        found = evaluate_model(
            ran.path / "ckpt" / f"epoch-{number:03d}.apr",
            dataset=tiny_shards / "val",
            max_tokens=256,
            seq_length=32,
            device="cpu",
        )
        assert found["loss"] == pytest.approx(ran.epoch(number)["val_loss"], abs=1e-6)
        assert found["standard_error"] == pytest.approx(ran.epoch(number)["val_standard_error"], abs=1e-6)
    assert ran.record["final_val_loss"] == ran.epoch(3)["val_loss"]


def test_the_step0_loss_is_the_checkpoints(ran: Ran, tiny_apr: Path, tiny_shards: Path) -> None:
    found = evaluate_model(tiny_apr, dataset=tiny_shards / "val", max_tokens=256, seq_length=32, device="cpu")
    assert ran.record["certificate"]["step0"]["val_loss"] == pytest.approx(found["loss"], abs=1e-6)


def test_training_trains(ran: Ran) -> None:
    step0 = ran.record["certificate"]["step0"]["val_loss"]
    assert ran.record["final_val_loss"] < step0 - 0.05
    assert ran.epoch(3)["val_loss"] < ran.epoch(1)["val_loss"]


def test_the_record_is_the_result_and_names_what_was_written(ran: Ran) -> None:
    assert read_json(ran.path / "record.json") == json.loads(json.dumps(ran.record))
    assert ran.record["outcome"] == "BUDGET_DONE"
    assert (ran.record["steps"], ran.record["tokens"]) == (5, ran.metrics[-1]["tokens_seen"])
    assert ran.record["checkpoints"] == [f"ckpt/epoch-{number:03d}.apr" for number in (1, 2, 3)]
    assert ran.record["error"] is None
    names = sorted(path.relative_to(ran.path).as_posix() for path in ran.path.rglob("*") if path.is_file())
    assert names == sorted(
        [
            *(
                "best.json",
                "certificate.json",
                "inputs.json",
                "log.txt",
                "metrics.jsonl",
                "plan.json",
                "record.json",
            ),
            *(f"ckpt/epoch-{n:03d}.{end}" for n in (1, 2, 3) for end in ("apr", "metadata.json")),
            *(f"{state_name(n)}/{end}" for n in (4, 5) for end in ("optimizer.safetensors", "progress.json")),
        ]
    )


def test_best_is_the_lowest_validation_loss(ran: Ran) -> None:
    losses = {number: ran.epoch(number)["val_loss"] for number in (1, 2, 3)}
    best = min(losses, key=losses.__getitem__)
    assert read_json(ran.path / "best.json") == {
        "checkpoint": f"ckpt/epoch-{best:03d}.apr",
        "epoch": best,
        "val_loss": losses[best],
    }


def test_the_certificate_holds_every_gate_and_its_digests(ran: Ran, tiny_apr: Path) -> None:
    document = read_json(ran.path / "certificate.json")
    assert [gate["id"] for gate in document["gates"]] == [
        *("file.container", "file.config", *TOKENS[:5], "tokens.probe", *TOKENS[5:]),
        *("weights.coverage", "weights.memory", "weights.values", *MODULE),
        *("reference.blocks", "reference.loss", "reference.training", "loss.random_init", "loss.step0"),
        *(*UPDATE, "weights.untouched", "log.messages"),
    ]
    assert document["not_judged"] == []
    assert {gate["verdict"] for gate in document["gates"]} == {"yes"}
    assert (document["grade"], document["verdict"], document["comparison"]) == ("B", "yes", "equality")
    digest = document.pop("digest")
    assert digest == sha256_bytes(canonical_json(document)) == ran.record["certificate"]["digest"]
    plan = read_json(ran.path / "plan.json")
    assert document["inputs"]["plan"] == plan["digest"] == resolve(ran.spec).digest
    with open_apr(tiny_apr) as file:
        assert document["inputs"]["init"] == file.file_digest
    with open_apr(ran.path / "ckpt" / "epoch-003.apr") as file:
        lineage = read_facts(file).lineage
    assert lineage == {
        "init_digest": document["inputs"]["init"],
        "certificate_digest": document["evidence_digest"],
        "plan_digest": plan["digest"],
        "step": 5,
        "tokens": ran.record["tokens"],
    }


# --- what two runs have in common ----------------------------------------------------------------


def test_a_seed_decides_everything(run: Runner) -> None:
    """INV-TRAIN-006, on twenty steps: bit-equal losses, norms and weights; another seed has others."""
    changes = {"num_steps": 20, "steps_per_epoch": 20, "grad_accum": 1}
    torch.manual_seed(1)
    one = run(**changes)
    torch.manual_seed(2)  # the global generator has no part in it
    two, other = run(**changes), run(**changes, seed=7)
    keys = ("step", "train_loss", "grad_norm", "lr", "tokens_seen")

    def told(ran: Ran) -> list[list[float]]:
        return [[line[key] for key in keys] for line in ran.metrics]

    assert told(one) == told(two)
    assert told(one) != told(other)
    weights = [(ran.path / "ckpt" / "epoch-001.apr").read_bytes() for ran in (one, two, other)]
    assert weights[0] == weights[1] != weights[2]


def test_no_steps_write_the_same_start_twice(run: Runner, tiny_apr: Path) -> None:
    """FALSIFY-APR-PRETRAIN-INIT-010, and the weights are the checkpoint's own."""
    runs = [run(num_steps=0) for _ in range(2)]
    paths = [ran.path / "ckpt" / "epoch-000.apr" for ran in runs]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with open_apr(paths[0]) as file, open_apr(tiny_apr) as source:
        assert all(bytes(file.bytes_of(name)) == bytes(source.bytes_of(name)) for name in source.entries)
        assert read_facts(file).reference == read_facts(source).reference
    assert runs[0].record["steps"] == 0
    assert not (runs[0].path / "metrics.jsonl").exists()


def test_a_checkpoint_of_a_run_can_start_the_next(run: Runner, ran: Ran) -> None:
    after = run(init=ran.path / "ckpt" / "epoch-003.apr", num_steps=1, lr=1e-5)
    step0 = after.record["certificate"]["step0"]
    assert step0["val_loss"] == pytest.approx(ran.record["final_val_loss"], abs=1e-6)
    assert after.record["certificate"]["grade"] == "B"


# --- how a run ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_steps", "target", "outcome"),
    [
        (2, 100.0, "TARGET_MET"),
        (2, 1e-3, "BUDGET_DONE"),
        (0, 100.0, "BUDGET_DONE"),  # nothing was trained, so nothing reached a target
    ],
)
def test_the_target_names_the_outcome(run: Runner, num_steps: int, target: float, outcome: str) -> None:
    ran = run(num_steps=num_steps, target_val_loss=target)
    assert (ran.record["outcome"], ran.record["steps"]) == (outcome, num_steps)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """Script the validation losses after step 0."""

    def script(losses: list[float]) -> None:
        values: Iterator[float] = iter(losses)

        def told(*_: Any) -> EvalLoss:
            return EvalLoss(loss=next(values), standard_error=0.1, num_tokens=9, num_sequences=3)

        monkeypatch.setattr(run_module, "validation_loss", told)

    return script


def test_spent_patience_is_an_early_stop(run: Runner, scripted: Callable[[list[float]], None]) -> None:
    """INV-TRAIN-004."""
    scripted([5.0, 4.0, 4.1, 4.2, 1.0])
    ran = run(num_steps=5, steps_per_epoch=1)
    assert (ran.record["outcome"], ran.record["steps"], ran.record["final_val_loss"]) == (
        "EARLY_STOP",
        4,
        4.2,
    )
    assert read_json(ran.path / "best.json")["epoch"] == 2


def test_a_doubled_loss_ends_the_run_without_its_checkpoint(
    run: Runner, scripted: Callable[[list[float]], None], tmp_path: Path
) -> None:
    """INV-TRAIN-005."""
    scripted([4.0, 8.5])
    with pytest.raises(LossDiverged) as caught:
        run(run_dir=tmp_path / "run")
    assert (caught.value.epoch, caught.value.limit) == (2, 8.0)
    record = read_json(tmp_path / "run" / "record.json")
    assert (record["outcome"], record["steps"], record["checkpoints"]) == (
        "DIVERGED",
        4,
        ["ckpt/epoch-001.apr"],
    )
    assert (record["error"]["id"], record["certificate"]["verdict"]) == ("APR612", "yes")
    assert not (tmp_path / "run" / "ckpt" / "epoch-002.apr").exists()


def test_a_nan_ends_the_run_before_the_update(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """INV-TRAIN-007: in the fourth step, with the checkpoint of the second intact."""
    real, calls = loop_module.next_token_loss, []

    def poisoned(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return real(*arguments) * (math.nan if len(calls) > 8 else 1.0)  # two of them rehearse

    monkeypatch.setattr(loop_module, "next_token_loss", poisoned)
    with pytest.raises(NotFinite) as caught:
        run(run_dir=tmp_path / "run")
    assert caught.value.step == 4
    record = read_json(tmp_path / "run" / "record.json")
    assert (record["outcome"], record["steps"], record["checkpoints"]) == (
        "DIVERGED",
        3,
        ["ckpt/epoch-001.apr"],
    )


def test_a_nan_in_the_rehearsal_is_of_the_first_step(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = loop_module.next_token_loss
    monkeypatch.setattr(loop_module, "next_token_loss", lambda *arguments: real(*arguments) * math.nan)
    with pytest.raises(NotFinite) as caught:
        run(run_dir=tmp_path / "run")
    assert caught.value.step == 1
    record = read_json(tmp_path / "run" / "record.json")
    assert (record["outcome"], record["steps"], record["checkpoints"]) == ("DIVERGED", 0, [])


def test_a_learning_rate_that_rounding_swallows_is_refused(run: Runner, tmp_path: Path) -> None:
    with pytest.raises(StepZeroRefused) as caught:
        run(lr=1e-9, run_dir=tmp_path / "run")
    assert caught.value.gate == "update.changes"
    assert "rounding" in caught.value.cause
    assert "--lr" in caught.value.advice


def test_step_zero_takes_no_longer_for_a_longer_run(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of a run of any length is judged by its beginning."""
    monkeypatch.setattr(run_module.Run, "_train", lambda self, zero, ledger: "BUDGET_DONE")
    certificate = run(num_steps=10**9, grad_accum=1000, allow_shard_cycle=True).record["certificate"]
    (gate,) = (gate for gate in certificate["gates"] if gate["id"] == "data.order")
    assert (gate["verdict"], gate["facts"]["num_batches_read"]) == ("yes", 2)
    assert gate["seconds"] < 60


def test_a_gate_that_says_no_ends_it_before_the_first_step(run: Runner, tmp_path: Path) -> None:
    def lie(metadata: dict[str, Any]) -> None:
        metadata["apr_pretrain"]["reference"]["loss"] += 0.01

    with pytest.raises(StepZeroRefused) as caught:
        run(init=make_model(tmp_path / "m.apr", edit_metadata=lie), run_dir=tmp_path / "run")
    assert caught.value.gate == "reference.loss"
    certificate = read_json(tmp_path / "run" / "certificate.json")
    record = read_json(tmp_path / "run" / "record.json")
    assert (certificate["verdict"], certificate["grade"]) == ("no", "C")
    assert (record["outcome"], record["steps"], record["checkpoints"]) == ("REFUSED", 0, [])
    assert record["certificate"]["verdict"] == "no"
    assert not (tmp_path / "run" / "ckpt").exists()


class Interrupting(Silent):
    """Presses Ctrl-C at a named moment."""

    def __init__(self, step: int = 0, epoch: int = 0) -> None:
        self.at_step, self.at_epoch = step, epoch

    def step(self, figures: StepFigures) -> None:
        if figures.step == self.at_step:
            signal.raise_signal(signal.SIGINT)

    def validation(self, epoch: int, val_loss: float, standard_error: float | None) -> None:
        if epoch == self.at_epoch:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("reporter", "steps", "checkpoints", "validated"),
    [
        (Interrupting(step=1), 1, 0, []),
        (Interrupting(step=2), 2, 0, []),  # at an epoch's end: kept in a state, and not validated
        (Interrupting(step=3), 3, 1, [True]),
        (
            Interrupting(epoch=1),
            2,
            1,
            [True],
        ),  # while validating: that epoch is whole, and is not written again
    ],
)
def test_an_interruption_keeps_the_steps_that_were_made(
    run: Runner, tmp_path: Path, reporter: Interrupting, steps: int, checkpoints: int, validated: list[bool]
) -> None:
    with pytest.raises(Interrupted):
        run(reporter, run_dir=tmp_path / "run")
    record = read_json(tmp_path / "run" / "record.json")
    assert (record["outcome"], record["steps"], len(record["checkpoints"])) == (
        "INTERRUPTED",
        steps,
        checkpoints,
    )
    for number, is_validated in enumerate(validated, 1):
        found = read_json(tmp_path / "run" / "ckpt" / f"epoch-{number:03d}.metadata.json")
        assert (found["val_loss"] is not None) is is_validated
        assert found["train_loss"] is not None
    state = read_state(tmp_path / "run", steps)
    with open_apr(tmp_path / "run" / state.weights) as file:
        assert (read_facts(file).lineage or {})["step"] == steps


def test_an_interruption_of_the_last_validation_changes_nothing(run: Runner) -> None:
    assert run(Interrupting(epoch=3)).record["outcome"] == "BUDGET_DONE"


def test_a_checkpoint_that_reads_back_otherwise_ends_the_run(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """INV-TRAIN-013."""
    real = checkpoint_module._bits
    monkeypatch.setattr(checkpoint_module, "_bits", lambda value: real(value) ^ (value.dim() == 1))
    with pytest.raises(CheckpointDiffers) as caught:
        run(run_dir=tmp_path / "run")
    assert caught.value.tensor == "model.layers.0.input_layernorm.weight"
    assert read_json(tmp_path / "run" / "record.json")["checkpoints"] == []


# --- what a run consumes -------------------------------------------------------------------------


def test_a_run_longer_than_its_corpus_is_refused_before_anything_is_made(run: Runner, tmp_path: Path) -> None:
    """INV-TRAIN-011."""
    with pytest.raises(TooFewWindows):
        run(num_steps=100_000, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_cycle_that_is_allowed_goes_on(run: Runner) -> None:
    ran = run(num_steps=3, batch_size=64, grad_accum=1, allow_shard_cycle=True, seq_length=64)
    losses = [line["train_loss"] for line in ran.metrics]
    assert len(set(losses)) == 3  # a constant placeholder is forbidden
    assert ran.record["steps"] == 3


def test_windows_that_were_not_consumed_are_noticed(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """INV-TRAIN-012."""

    class Forgetful(certify_module.BatchStream):
        def next_batch(self) -> Any:
            batch = super().next_batch()
            self.cursor -= self.cursor == 8  # the end of a step
            return batch

    monkeypatch.setattr(certify_module, "BatchStream", Forgetful)
    with pytest.raises(TokensMiscounted) as caught:
        run(run_dir=tmp_path / "run")
    assert (caught.value.planned, caught.value.consumed) == (20 * 32, 19 * 32)


def test_a_window_that_a_step_takes_twice_is_noticed_before_its_update(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Forgetful(certify_module.BatchStream):
        def next_batch(self) -> Any:
            self.cursor -= self.cursor == 6  # within a step
            return super().next_batch()

    monkeypatch.setattr(certify_module, "BatchStream", Forgetful)
    with pytest.raises(WindowsMisdealt) as caught:
        run(run_dir=tmp_path / "run")
    assert caught.value.step == 2
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


def test_memory_that_is_not_there_is_refused(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fit_module, "available_memory_bytes", lambda: 1 << 20)
    with pytest.raises(AprError) as caught:
        run(run_dir=tmp_path / "run")
    assert caught.value.id == "APR606"
    assert not (tmp_path / "run").exists()


# --- runs that do not train ----------------------------------------------------------------------


def test_from_scratch_has_no_checkpoint_to_certify(run: Runner, tmp_path: Path, tiny_apr: Path) -> None:
    with open_apr(tiny_apr) as file:
        config = read_facts(file).config
    (tmp_path / "arch.json").write_text(json.dumps(config.to_dict()))
    ran = run(
        init=None, arch=str(tmp_path / "arch.json"), tokenizer=tiny_apr, mode="from-scratch", warmup_steps=1
    )
    certificate = ran.record["certificate"]
    assert certificate["grade"] is None
    assert [gate["id"] for gate in certificate["gates"]] == [
        *(*TOKENS, *MODULE, "loss.random_init", "loss.step0", *UPDATE, "log.messages")
    ]
    assert certificate["step0"]["val_loss"] == pytest.approx(math.log(config.vocab_size), abs=0.5)
    assert certificate["step0"]["reference_loss"] is None


def test_every_artifact_of_a_synthetic_run_says_so(run: Runner) -> None:
    """INV-TRAIN-010 and S-01; without the option the runs above are real."""
    ran = run(synthetic=True, init=None)
    files = [path for path in ran.path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"plan.json", "record.json", "metrics.jsonl", "log.txt"}
    assert all("SYNTHETIC" in path.read_text() for path in files)
    assert all(line["kind"] == "SYNTHETIC" for line in ran.metrics)
    assert (ran.record["kind"], ran.record["certificate"], ran.record["checkpoints"]) == (
        "SYNTHETIC",
        None,
        [],
    )


def test_no_artifact_of_a_real_run_says_synthetic(ran: Ran) -> None:
    assert not any(
        "SYNTHETIC" in path.read_text() for path in ran.path.rglob("*") if path.suffix in (".json", ".txt")
    )


def test_a_dry_run_writes_nothing_and_says_what_it_would_take(ran: Ran, tmp_path: Path) -> None:
    spec = RunSpec(
        init=ran.spec.init, dataset=ran.spec.dataset, run_dir=tmp_path / "run", **{**QUICK, "num_steps": 3}
    )
    found = estimate(spec, Silent())
    assert list(tmp_path.iterdir()) == []
    assert found["plan"]["digest"] == resolve(spec).digest
    assert found["memory_bytes"] == found["memory"]["peak"] > 16 * found["num_parameters"]
    assert (found["num_tokens"], found["seconds"] < 600) == (3 * 2 * 2 * 32, True)
    assert found["corpus_epochs"] * found["available_windows"] == pytest.approx(3 * 2 * 2)
    told = 3 * found["seconds_per_step"] + 3 * found["seconds_per_validation"]  # before, and after two epochs
    assert found["seconds"] == pytest.approx(told)
    assert found["inputs"]["dataset"] == {"value": str(spec.dataset), "source": "--dataset"}
    json.dumps(found)
