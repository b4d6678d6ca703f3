"""Resume: from any stop the run goes on to the same bytes, and from nothing that is another run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apr.arch.errors import ArchMismatch
from apr.base.errors import AprError, BadJson, CannotWrite, Interrupted
from apr.base.files import write_json
from apr.data.errors import ShardChangedInUse
from apr.stepzero.errors import StepZeroRefused
from apr.tokenizer.definition import save_definition
from apr.train import certify_resume
from apr.train import run as run_module
from apr.train import run_state as state_module
from apr.train import saver as saver_module
from apr.train.errors import MetricsChanged, NothingToResume, ResumeDiffers, StateBad, TokenizerMismatch
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent, StepFigures
from apr.train.spec import RunSpec
from killing import Killed, Killer, dies, noes
from tiny import CONFIG, VOCAB_SIZE, make_model, make_shards, make_tokenizer, read_json

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK: dict[str, Any] = {
    "num_steps": 7, "batch_size": 2, "seq_length": 32, "grad_accum": 2, "steps_per_epoch": 3,
    "val_tokens": 256, "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def spec(tiny_apr: Path, tiny_shards: Path) -> Callable[..., RunSpec]:
    def make(run_dir: Path, **changes: Any) -> RunSpec:
        return RunSpec(**{"init": tiny_apr, "dataset": tiny_shards, "run_dir": run_dir, **QUICK, **changes})

    return make


@pytest.fixture(scope="module")
def undisturbed(
    one_thread: None, spec: Callable[..., RunSpec], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    pretrain(spec(folder), Silent())
    return folder


def resume(run_dir: Path, reporter: Any = None, **given: Any) -> dict[str, Any]:
    return pretrain(RunSpec(run_dir=run_dir, resume=True, **given), reporter or Silent())


def results(run_dir: Path) -> dict[str, Any]:
    """All that a run leaves, but for times."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    record = read_json(run_dir / "record.json")
    states = {path.parent.name: path.read_bytes() for path in run_dir.glob("state/*/optimizer.safetensors")}
    metadata = {path.name: read_json(path) for path in run_dir.glob("ckpt/*.json")}
    return {
        "checkpoints": {path.name: path.read_bytes() for path in run_dir.glob("ckpt/*.apr")},
        "states": states,
        "metrics": [{k: v for k, v in line.items() if k != "tokens_per_sec"} for line in lines],
        "metadata": {
            name: {k: v for k, v in said.items() if k != "wall_seconds"} for name, said in metadata.items()
        },
        "best": read_json(run_dir / "best.json"),
        "record": {k: record[k] for k in ("outcome", "steps", "tokens", "final_val_loss", "checkpoints")},
    }


# --- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, 8))
def test_killed_after_any_step_the_run_ends_in_the_same_bytes(
    step: int, spec: Callable[..., RunSpec], undisturbed: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with dies():
        pretrain(spec(run_dir), Killer(step))
    resume(run_dir)
    assert results(run_dir) == results(undisturbed)
    assert noes(run_dir) == []


@pytest.mark.parametrize("step", [1, 2, 3, 4, 6, 7])
def test_interrupted_after_any_step_no_step_is_made_twice(
    step: int,
    spec: Callable[..., RunSpec],
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_dir = tmp_path / "run"
    seen: list[int] = []
    interrupt_at(monkeypatch, step)
    with pytest.raises(Interrupted):
        pretrain(spec(run_dir), Silent())
    monkeypatch.undo()
    assert read_json(run_dir / "record.json")["outcome"] == "INTERRUPTED"
    assert noes(run_dir) == []

    class Counting(Silent):
        def step(self, figures: StepFigures) -> None:
            seen.append(figures.step)

    resume(run_dir, Counting())
    assert seen == list(range(step + 1, 8))
    assert results(run_dir) == results(undisturbed)
    assert noes(run_dir) == []


def interrupt_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Answer the loop's question as after a SIGTERM, from a step on."""
    original = run_module._log_update
    state = {"asked": False}

    def log(run_dir: Any, reporter: Any, figures: StepFigures) -> None:
        original(run_dir, reporter, figures)
        state["asked"] = state["asked"] or figures.step >= step

    class Asked:
        def __enter__(self) -> Callable[[], bool]:
            return lambda: state["asked"]

        def __exit__(self, *error: Any) -> None: ...

    patch.setattr(run_module, "_log_update", log)
    patch.setattr(run_module, "interruptions", Asked)


def test_killed_in_every_write_of_a_save(
    spec: Callable[..., RunSpec], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die at the n-th write of the whole run, for every n, and once more while going on."""
    for number in range(1, 40):
        run_dir = tmp_path / f"run{number}"
        with dying_at(monkeypatch, number), dies(surely=False):
            pretrain(spec(run_dir, save="blocking"), Silent())
        if (run_dir / "record.json").is_file():
            break  # it came to its end
        if not (run_dir / "plan.json").is_file():
            continue
        with dying_at(monkeypatch, 3), dies(surely=False):
            resume(run_dir)
        if not (run_dir / "record.json").is_file():
            resume(run_dir)
        assert results(run_dir)["checkpoints"] == results(undisturbed)["checkpoints"] or _blocking(run_dir)
        assert results(run_dir)["metrics"] == results(undisturbed)["metrics"]
        assert noes(run_dir) == [], number
    assert number > 12


def _blocking(run_dir: Path) -> bool:
    """Another plan has another digest in the lineage; the weights are compared by the metrics then."""
    return bool(read_json(run_dir / "plan.json")["values"]["save"]["value"] == "blocking")


class dying_at:
    """Raise Killed at the n-th rename of a finished file or folder."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int) -> None:
        self._patch, self._left = patch, number

    def __enter__(self) -> None:
        originals = {"replace": os.replace, "rename": os.rename}

        def counting(name: str) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                self._left -= 1
                if self._left == 0:
                    raise Killed
                return originals[name](*args, **kwargs)

            return call

        for name in originals:
            self._patch.setattr(os, name, counting(name))

    def __exit__(self, *error: Any) -> None:
        self._patch.undo()


# --- nothing else ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(one_thread: None, spec: Callable[..., RunSpec], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after step 5: its last state is that of step 3, at an epoch's end."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with dies():
        pretrain(spec(folder, save="blocking"), Killer(5))
    return folder


@pytest.fixture
def copied(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def flip(path: Path, at: int = -9) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def reseal(run_dir: Path, **values: Any) -> None:
    """Edit the state, with a digest that holds."""
    state = replace(state_module.read_state(run_dir, 3), **values)
    write_json(run_dir / state_module.state_name(3) / "progress.json", state.to_dict())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "log.txt"
    }


OTHERS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda run: flip(run / "state/step-00000003/optimizer.safetensors"), "resume.optimizer"),
    (lambda run: reseal(run, optimizer_state_sha="0" * 64), "resume.optimizer"),
    (lambda run: reseal(run, weights_digest="0" * 64), "resume.start"),
    (lambda run: edit_json(run / "ckpt/epoch-001.metadata.json", val_loss=5.0), "resume.loss"),
    (lambda run: edit_json(run / "ckpt/epoch-001.metadata.json", val_loss="x"), "resume.loss"),
]


@pytest.mark.parametrize(("spoil", "gate"), OTHERS)
def test_a_state_that_is_another_is_refused_by_its_gate_alone(
    copied: Path, spoil: Callable[[Path], Any], gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(copied)
    again = Path(shutil.copytree(copied, copied.with_name("again")))
    with pytest.raises(StepZeroRefused) as caught:
        resume(copied)
    assert caught.value.gate == gate
    name = {"start": "_start_gate", "optimizer": "_optimizer_gate", "loss": "_loss_gate"}[
        gate.partition(".")[2]
    ]
    original = getattr(certify_resume, name)
    monkeypatch.setattr(
        certify_resume, name, lambda *given: replace(original(*given), verdict="yes", cause="")
    )
    assert resume(again)["outcome"] == "BUDGET_DONE"  # without the gate it gets through


def edit_json(path: Path, **values: Any) -> None:
    write_json(path, {**read_json(path), **values})


def test_damaged_weights_are_refused_and_the_state_before_goes_on(
    spec: Callable[..., RunSpec], undisturbed: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with dies():
        pretrain(spec(run_dir, save="blocking"), Killer(7))
    flip(run_dir / "ckpt/epoch-002.apr", -2000)
    before = snapshot(run_dir)
    with pytest.raises(AprError) as caught:
        resume(run_dir)
    assert caught.value.id in ("APR219", "APR205", "APR207")
    assert snapshot(run_dir) == before
    shutil.rmtree(run_dir / state_module.state_name(6))  # as the advice says
    resume(run_dir)
    assert results(run_dir)["metrics"] == results(undisturbed)["metrics"]
    assert noes(run_dir) == []


def test_checkpoints_are_not_removed_because_their_states_are_gone(
    spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with dies():
        pretrain(spec(run_dir, save="blocking"), Killer(7))
    shutil.rmtree(run_dir / "state")
    before = snapshot(run_dir)
    with pytest.raises(NothingToResume):
        resume(run_dir)
    assert snapshot(run_dir) == before


def test_a_damaged_state_names_itself(copied: Path) -> None:
    flip(copied / "state/step-00000003/progress.json", 40)
    before = snapshot(copied)
    with pytest.raises(StateBad) as caught:
        resume(copied)
    assert caught.value.step == 3
    assert snapshot(copied) == before


@pytest.mark.parametrize(
    ("given", "option"),
    [({"lr": 2e-3}, "--lr"), ({"num_steps": 9}, "--num-steps"), ({"seed": 1}, "--seed")],
)
def test_another_option_is_another_run(copied: Path, given: dict[str, Any], option: str) -> None:
    before = snapshot(copied)
    with pytest.raises(ResumeDiffers) as caught:
        resume(copied, **given)
    assert caught.value.option == option
    assert snapshot(copied) == before


def test_the_same_options_may_be_repeated(copied: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    assert resume(copied, init=tiny_apr, dataset=tiny_shards, **QUICK)["outcome"] == "BUDGET_DONE"


def test_another_checkpoint_is_another_run(copied: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other.apr", seed=1)
    with pytest.raises(ResumeDiffers) as caught:
        resume(copied, init=other)
    assert caught.value.option == "--init"


@pytest.mark.parametrize("name", ["allow_shard_cycle", "document_mask"])
def test_a_switch_may_not_be_set_back(name: str, spec: Callable[..., RunSpec], tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with dies():
        pretrain(spec(run_dir, **{name: True}), Killer(4))
    with pytest.raises(ResumeDiffers) as caught:
        resume(run_dir, **{name: False, "places": {name: f"--set data.{name}"}})
    assert caught.value.option == f"--set data.{name}"


def test_another_architecture_or_tokenizer_is_refused(copied: Path, tmp_path: Path) -> None:
    before = snapshot(copied)
    with pytest.raises(ArchMismatch):
        resume(copied, arch="llama-370m")
    save_definition(make_tokenizer(VOCAB_SIZE - 1), tmp_path / "other")
    with pytest.raises(TokenizerMismatch):
        resume(copied, tokenizer=tmp_path / "other")
    assert snapshot(copied) == before


def test_other_shards_are_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(StepZeroRefused) as caught:
        resume(copied, dataset=make_shards(tmp_path / "other", documents=50))
    assert caught.value.gate == "resume.start"


def test_metrics_that_were_changed_are_refused(copied: Path) -> None:
    flip(copied / "metrics.jsonl", 3)
    with pytest.raises(MetricsChanged) as caught:
        resume(copied)
    assert caught.value.step == 3


@pytest.mark.parametrize("name", ["certificate.json", "plan.json"])
def test_a_start_that_does_not_hold_is_not_gone_on_from(copied: Path, name: str) -> None:
    """An edit that would let other data in: the certificate's inputs, under digests that are the old ones."""
    document = read_json(copied / name)
    if name == "certificate.json":
        document["inputs"]["train"] = "0" * 64
    else:
        document["values"]["seed"]["value"] = 43
    write_json(copied / name, document)
    before = snapshot(copied)
    with pytest.raises(NothingToResume) as caught:
        resume(copied)
    assert name in caught.value.reason
    assert snapshot(copied) == before


def test_a_damaged_record_is_named(copied: Path) -> None:
    (copied / "record.json").write_text("{")
    with pytest.raises(BadJson):
        resume(copied)


def test_inputs_that_are_no_paths_are_named(copied: Path) -> None:
    edit_json(copied / "inputs.json", init=3)
    with pytest.raises(NothingToResume):
        resume(copied)


def test_a_list_of_loggers_without_names_is_named(copied: Path) -> None:
    (copied / "loggers.json").write_text("{}")
    with pytest.raises(BadJson):
        resume(copied)


def test_the_thousandth_checkpoint_comes_last(tmp_path: Path) -> None:
    names = [f"ckpt/epoch-{number:03d}.apr" for number in (998, 999, 1000, 1001)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    state_module.forget(tmp_path, "last:2", None)
    assert {path.name for path in tmp_path.glob("ckpt/*")} == {"epoch-1000.apr", "epoch-1001.apr"}


def test_what_has_ended_or_never_began_is_not_resumed(undisturbed: Path, tmp_path: Path) -> None:
    for folder in (undisturbed, tmp_path / "nothing", tmp_path):
        before = snapshot(folder)
        with pytest.raises(NothingToResume):
            resume(folder)
        assert snapshot(folder) == before
    assert not (tmp_path / "nothing").exists()


def test_a_run_without_a_state_begins_again(
    spec: Callable[..., RunSpec], undisturbed: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with dies():
        pretrain(spec(run_dir), Killer(2))
    resume(run_dir)
    assert results(run_dir) == results(undisturbed)


def test_a_run_that_begins_again_notes_what_it_begins_from(
    spec: Callable[..., RunSpec], tiny_apr: Path, tmp_path: Path
) -> None:
    run_dir, other = tmp_path / "run", tmp_path / "other.apr"
    shutil.copy(tiny_apr, other)
    with dies():
        pretrain(spec(run_dir), Killer(2))
    resume(run_dir, init=other)
    assert read_json(run_dir / "inputs.json")["init"] == str(other)


def test_a_run_that_begins_again_begins_from_the_same_inputs(
    spec: Callable[..., RunSpec], tiny_apr: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    run_dir, shards = tmp_path / "run", Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    with dies():
        pretrain(spec(run_dir, dataset=shards), Killer(2))
    before = snapshot(run_dir)
    with pytest.raises(ResumeDiffers) as caught:
        resume(run_dir, init=make_model(tmp_path / "other.apr", seed=1))
    assert caught.value.option == "--init"
    shutil.rmtree(shards)
    make_shards(shards, documents=50)
    with pytest.raises(ResumeDiffers) as caught:
        resume(run_dir)
    assert caught.value.option == "--dataset"
    assert snapshot(run_dir) == before
    resume(run_dir, dataset=tiny_shards)
    assert noes(run_dir) == []


def test_what_step_zero_refused_may_be_mended(
    spec: Callable[..., RunSpec], tiny_shards: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shards = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    shutil.rmtree(shards / "val")
    shutil.copytree(tiny_shards, shards / "val", ignore=shutil.ignore_patterns("val"))
    with pytest.raises(StepZeroRefused) as caught:
        pretrain(spec(run_dir, dataset=shards), Silent())
    assert caught.value.gate == "tokens.split"
    assert resume(run_dir, dataset=tiny_shards)["outcome"] == "BUDGET_DONE"


def test_from_scratch_too(tiny_shards: Path, spec: Callable[..., RunSpec], tmp_path: Path) -> None:
    config = tmp_path / "arch.json"
    write_json(config, CONFIG.to_dict())
    asked = {"init": None, "arch": str(config), "mode": "from-scratch"}
    pretrain(spec(tmp_path / "whole", **asked), Silent())
    with dies():
        pretrain(spec(tmp_path / "run", **asked), Killer(5))
    resume(tmp_path / "run")
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert noes(tmp_path / "run") == []


def test_a_failed_save_ends_the_run_and_the_last_one_is_whole(
    spec: Callable[..., RunSpec], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, original, calls = tmp_path / "run", saver_module.write_state, []

    def full(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise CannotWrite(path="state", reason="No space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(saver_module, "write_state", full)
    with pytest.raises(CannotWrite):
        pretrain(spec(run_dir), Silent())
    record = read_json(run_dir / "record.json")
    assert (record["outcome"], record["checkpoints"]) == ("REFUSED", ["ckpt/epoch-001.apr"])
    assert noes(run_dir) == []  # it is as it says; nobody has changed it
    monkeypatch.undo()
    resume(run_dir)
    assert results(run_dir) == results(undisturbed)


@pytest.mark.parametrize(
    ("keep", "left"), [("last:1", [5]), ("last:2,best", [4, 5]), ("all", [1, 2, 3, 4, 5])]
)
def test_no_more_is_kept_than_asked(
    spec: Callable[..., RunSpec], tmp_path: Path, keep: str, left: list[int]
) -> None:
    run_dir = tmp_path / "run"
    record = pretrain(spec(run_dir, keep=keep, num_steps=10, steps_per_epoch=2), Silent())
    there = sorted(path.name for path in run_dir.glob("ckpt/*.apr"))
    if keep == "last:1":  # the state before needs its weights
        left = [4, 5]
    assert there == [f"epoch-{number:03d}.apr" for number in left]
    assert len(record["checkpoints"]) == 5
    assert len(list(run_dir.glob("ckpt/*.metadata.json"))) == 5
    assert noes(run_dir) == []


@pytest.mark.parametrize("name", ["shard-00000.bin", "val/shard-00000.bin"])
def test_a_shard_that_changes_in_use_ends_the_run(
    name: str, spec: Callable[..., RunSpec], tiny_shards: Path, undisturbed: Path, tmp_path: Path
) -> None:
    shards = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    kept = (shards / name).read_bytes()

    class Changing(Silent):
        def step(self, figures: StepFigures) -> None:
            if figures.step == 5:
                flip(shards / name)

    with pytest.raises(ShardChangedInUse):
        pretrain(spec(tmp_path / "run", dataset=shards), Changing())
    with pytest.raises(AprError):
        resume(tmp_path / "run")
    (shards / name).write_bytes(kept)
    resume(tmp_path / "run")
    assert results(tmp_path / "run") == results(undisturbed)


def test_no_clock_is_believed(
    spec: Callable[..., RunSpec], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter(range(10**9, 0, -(10**5)))
    monkeypatch.setattr("time.time", lambda: float(next(jumps)))
    monkeypatch.setattr("time.time_ns", lambda: next(jumps) * 10**9)
    pretrain(spec(tmp_path / "run"), Silent())
    assert results(tmp_path / "run") == results(undisturbed)


def test_the_certificate_of_a_resume_is_verified_too(copied: Path) -> None:
    resume(copied)
    assert noes(copied) == []
    edit_json(copied / "resumes/001.json", grade="A")
    found = noes(copied)
    assert "resumes/001.certificate.digest" in found
    assert all(name.startswith("resumes/001.") for name in found)
