"""Runs that train a part of a model: which part, what becomes of the rest, and that they go on as all runs do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apr.aprfile.reader import open_apr
from apr.arch.inventory import EMBEDDING, HEAD, inventory
from apr.base.errors import AprError
from apr.base.files import write_json
from apr.stepzero.errors import StepZeroRefused
from apr.train import certify_resume, saver
from apr.train.errors import ResumeDiffers, StateBad
from apr.train.plan import resolve
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent
from apr.train.run_state import read_state, state_name
from apr.train.spec import RunSpec
from apr.train.subset import subset_of
from apr.train.subset_errors import (
    FreezeUnmatched,
    FreezeWithLora,
    FrozenChanged,
    LoraNeedsInit,
    MergeDiffers,
    NothingTrainable,
)
from apr.workflows.verifying import verify
from killing import Killed, Killer, dies, noes
from tiny import CONFIG, make_model, read_json

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK: dict[str, Any] = {
    "num_steps": 7, "batch_size": 2, "seq_length": 32, "grad_accum": 2, "steps_per_epoch": 3,
    "val_tokens": 256, "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 2,
}  # fmt: skip
UNTIED = replace(CONFIG, tie_word_embeddings=False)
PARTS: dict[str, dict[str, Any]] = {
    "freeze": {"freeze": ("model.layers.0.*", "lm_head.weight")},
    "lora": {"lora": "r=4,targets=q,k,v,o"},
}
LORA = PARTS["lora"]
QKV = {
    s.name for s in inventory(CONFIG) if s.name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
}


Make = Callable[..., RunSpec]


@pytest.fixture(scope="module")
def spec(tiny_apr: Path, tiny_shards: Path) -> Make:
    def make(run_dir: Path, **changes: Any) -> RunSpec:
        return RunSpec(**{"init": tiny_apr, "dataset": tiny_shards, "run_dir": run_dir, **QUICK, **changes})

    return make


@pytest.fixture(scope="module")
def undisturbed(one_thread: None, spec: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    for name, part in PARTS.items():
        pretrain(spec(folder / name, **part), Silent())
    return {name: folder / name for name in PARTS}


def resume(run_dir: Path, reporter: Any = None, **given: Any) -> dict[str, Any]:
    return pretrain(RunSpec(run_dir=run_dir, resume=True, **given), reporter or Silent())


def results(run_dir: Path) -> dict[str, Any]:
    """All that a run leaves, but for times."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    metadata = {path.name: read_json(path) for path in run_dir.glob("ckpt/*.json")}
    files = [
        *run_dir.glob("ckpt/*.apr"),
        *run_dir.glob("ckpt/*.adapter/*"),
        *run_dir.glob("state/*/*.safetensors"),
    ]
    return {
        "files": {path.relative_to(run_dir).as_posix(): path.read_bytes() for path in files},
        "metrics": [{k: v for k, v in line.items() if k != "tokens_per_sec"} for line in lines],
        "metadata": {
            name: {k: v for k, v in m.items() if k != "wall_seconds"} for name, m in metadata.items()
        },
    }


def opens(run_dir: Path, **given: Any) -> set[str]:
    return {check["id"] for check in verify(run_dir, **given)["checks"] if check["verdict"] == "not known"}


def tensors(path: Path) -> dict[str, np.ndarray]:
    with open_apr(path, "full") as file:
        return {name: file.as_f32(name).copy() for name in (spec.name for spec in inventory(CONFIG))}


def moved(before: Path, after: Path) -> set[str]:
    first, second = tensors(before), tensors(after)
    return {name for name, value in first.items() if not np.array_equal(value, second[name])}


def plan_of(**changes: Any) -> Any:
    return resolve(RunSpec(dataset=Path("d"), run_dir=Path("r"), init=Path("m"), **changes))


# --- which part ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("globs", "frozen"),
    [
        (("model.norm.weight",), {"model.norm.weight"}),
        (("*norm*",), {s.name for s in inventory(CONFIG) if "norm" in s.name}),
        (("*.0.*", "*.1.*"), {s.name for s in inventory(CONFIG) if ".layers." in s.name}),
        (("*.q_proj.*", "*.[kv]_proj.*"), QKV),
        ((EMBEDDING,), {EMBEDDING}),
        ((HEAD,), {EMBEDDING}),
        (("lm_*",), {EMBEDDING}),
    ],
)
def test_globs_are_over_the_names_of_the_model_and_a_tied_head_has_two(
    globs: tuple[str, ...], frozen: set[str]
) -> None:
    subset = subset_of(plan_of(freeze=globs), CONFIG)
    assert {s.name for s in subset.frozen} == frozen == set(subset.kept)
    assert subset.names == {s.name for s in inventory(CONFIG)} - frozen


def test_a_tied_pair_is_told_when_one_name_froze_both() -> None:
    for name in (EMBEDDING, HEAD):
        (note,) = subset_of(plan_of(freeze=(name,)), CONFIG).notes
        assert EMBEDDING in note
        assert HEAD in note
    assert subset_of(plan_of(freeze=(EMBEDDING, HEAD)), CONFIG).notes == ()
    untied = subset_of(plan_of(freeze=(EMBEDDING,)), UNTIED)
    assert untied.notes == ()
    assert HEAD in untied.names


@pytest.mark.parametrize(
    ("config", "glob"), [(CONFIG, "model.layer.*.q_proj.weight"), (UNTIED, "head.weight")]
)
def test_a_glob_that_names_nothing_is_refused_with_the_nearest_names(config: Any, glob: str) -> None:
    with pytest.raises(FreezeUnmatched) as caught:
        subset_of(plan_of(freeze=("*norm*", glob)), config)
    assert caught.value.glob == glob
    near = "model.layers.*.self_attn.q_proj.weight" if "q_proj" in glob else HEAD
    assert near in caught.value.nearest


def test_what_leaves_nothing_or_random_weights_to_stand_is_refused() -> None:
    with pytest.raises(NothingTrainable):
        subset_of(plan_of(freeze=("*",)), CONFIG)
    with pytest.raises(NothingTrainable):
        subset_of(plan_of(freeze=("model.layers.*", "model.norm.weight", HEAD)), CONFIG)
    with pytest.raises(FreezeWithLora):
        subset_of(plan_of(freeze=("*norm*",), lora="r=4"), CONFIG)
    with pytest.raises(LoraNeedsInit):
        subset_of(resolve(RunSpec(dataset=Path("d"), run_dir=Path("r"), lora="r=4")), CONFIG)


def test_a_refusal_leaves_no_run_directory(spec: Make, tmp_path: Path) -> None:
    for asked in (
        {"freeze": ("nothing",)},
        {"lora": "r=4", "init": None, "arch": "tiny", "mode": "from-scratch"},
    ):
        with pytest.raises(AprError) as caught:
            pretrain(spec(tmp_path / "run", **asked), Silent())
        assert caught.value.id in ("APR682", "APR684", "APR622", "APR621")
        assert not (tmp_path / "run").exists()


def test_the_plan_says_it_and_another_part_is_another_plan() -> None:
    plans = [
        plan_of(),
        plan_of(freeze=("*norm*",)),
        plan_of(freeze=("*.0.*",)),
        plan_of(lora="r=4"),
        plan_of(lora="r=5"),
    ]
    assert len({plan.digest for plan in plans}) == 5
    for plan in plans:
        assert type(plan).from_dict(plan.to_dict()) == plan
    assert plan_of(lora="r=4").lora == "r=4,alpha=8,targets=q,k,v,o"
    assert plan_of(lora="r=4").digest == plan_of(lora="targets=o,v,k,q,r=4,alpha=8.0").digest


# --- what becomes of it --------------------------------------------------------------------------


def test_a_frozen_part_is_what_it_was_and_all_else_has_moved(
    undisturbed: dict[str, Path], tiny_apr: Path
) -> None:
    run_dir = undisturbed["freeze"]
    frozen = {s.name for s in inventory(CONFIG) if ".layers.0." in s.name} | {EMBEDDING}
    everything = {s.name for s in inventory(CONFIG)}
    for number in (1, 2, 3):
        assert moved(tiny_apr, run_dir / f"ckpt/epoch-{number:03d}.apr") == everything - frozen
    assert noes(run_dir, init=tiny_apr) == []


def test_a_lora_run_moves_its_targets_and_keeps_the_rest(
    undisturbed: dict[str, Path], tiny_apr: Path
) -> None:
    run_dir = undisturbed["lora"]
    targets = {s.name for s in inventory(CONFIG) if "self_attn" in s.name}
    assert moved(tiny_apr, run_dir / "ckpt/epoch-003.apr") == targets
    said = read_json(run_dir / "ckpt/epoch-003.metadata.json")["merge"]
    assert (said["num_merged"], said["num_changed"], said["lora"]) == (8, 8, "r=4,alpha=8,targets=q,k,v,o")
    assert said["gap"] <= said["limit"] < said["effect"] / 10
    losses = [json.loads(line)["train_loss"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert losses[0] != losses[1]
    assert noes(run_dir, init=tiny_apr) == []
    assert "ckpt/epoch-003.merged" in opens(run_dir)  # without the base that much is open
    assert "files.others" not in opens(run_dir)


def test_a_merged_checkpoint_is_a_checkpoint_like_any_other(
    undisturbed: dict[str, Path], spec: Make, tmp_path: Path
) -> None:
    merged = undisturbed["lora"] / "ckpt/epoch-003.apr"
    record = pretrain(spec(tmp_path / "run", init=merged, num_steps=1), Silent())
    assert (record["certificate"]["grade"], record["certificate"]["verdict"]) == ("B", "yes")
    before = read_json(merged.with_suffix(".metadata.json"))["val_loss"]
    assert record["certificate"]["step0"]["val_loss"] == pytest.approx(before, abs=1e-5)


def test_without_steps_the_merge_is_the_base(spec: Make, tmp_path: Path, tiny_apr: Path) -> None:
    pretrain(spec(tmp_path / "run", num_steps=0, **LORA), Silent())
    assert moved(tiny_apr, tmp_path / "run/ckpt/epoch-000.apr") == set()
    assert noes(tmp_path / "run", init=tiny_apr) == []


@pytest.mark.parametrize("part", PARTS)
def test_the_same_in_bf16_and_with_a_head_of_its_own(
    part: str, tiny_shards: Path, spec: Make, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "untied.apr", UNTIED)
    pretrain(spec(tmp_path / "run", init=model, dtype="bf16", **PARTS[part]), Silent())
    assert noes(tmp_path / "run", init=model) == []


def test_frozen_from_scratch_too(spec: Make, tmp_path: Path) -> None:
    write_json(tmp_path / "arch.json", CONFIG.to_dict())
    asked: dict[str, Any] = {"init": None, "arch": str(tmp_path / "arch.json"), "mode": "from-scratch"}
    pretrain(spec(tmp_path / "run", freeze=(EMBEDDING,), **asked), Silent())
    assert noes(tmp_path / "run") == []


def test_what_was_written_to_is_not_saved(
    spec: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = saver.require_frozen

    def spoilt(expected: Any, parameters: Any, step: int) -> None:
        if step > 3:
            parameters["model.layers.0.mlp.up_proj.weight"].data[0, 0] += 1e-7
        original(expected, parameters, step)

    monkeypatch.setattr(saver, "require_frozen", spoilt)
    for part in PARTS.values():
        run_dir = tmp_path / str(len(part.get("freeze", ())))
        with pytest.raises(FrozenChanged) as caught:
            pretrain(spec(run_dir, **part), Silent())
        assert (caught.value.step, caught.value.tensor) == (6, "model.layers.0.mlp.up_proj.weight")
        assert [path.name for path in run_dir.glob("ckpt/*.apr")] == ["epoch-001.apr"]


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.99, 1.01, -1.0])
def test_a_merge_of_another_strength_is_not_saved(
    factor: float, spec: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apr.train import merge

    original = merge.merged_weights

    def weaker(decoder: Any) -> Any:
        base = dict(decoder.named_parameters())
        return {n: (base[n] + factor * (v - base[n])).detach() for n, v in original(decoder).items()}

    monkeypatch.setattr(merge, "merged_weights", weaker)
    with pytest.raises(MergeDiffers) as caught:
        pretrain(spec(tmp_path / "run", lr=1e-2, **LORA), Silent())
    assert caught.value.step == 3
    assert not list((tmp_path / "run").glob("ckpt/*.apr"))


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2, 3, 4, 6, 7])
@pytest.mark.parametrize("part", PARTS)
def test_killed_and_resumed_the_run_ends_in_the_same_bytes(
    part: str, step: int, spec: Make, undisturbed: dict[str, Path], tmp_path: Path, tiny_apr: Path
) -> None:
    run_dir = tmp_path / "run"
    with dies():
        pretrain(spec(run_dir, **PARTS[part]), Killer(step))
    with dies(surely=False):
        resume(run_dir, Killer(min(step + 2, 7)))
    if not (run_dir / "record.json").is_file():
        resume(run_dir)
    assert results(run_dir) == results(undisturbed[part])
    assert noes(run_dir, init=tiny_apr) == []


@pytest.mark.parametrize("part", PARTS)
def test_a_state_between_two_epochs_is_gone_on_from(
    part: str, spec: Make, undisturbed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apr.train import run as module

    class Asked:
        def __enter__(self) -> Any:
            return lambda: (tmp_path / "run/metrics.jsonl").read_text().count("\n") >= 5

        def __exit__(self, *error: Any) -> None: ...

    original = module.updates

    def written(*args: Any, **kwargs: Any) -> Any:
        (tmp_path / "run/metrics.jsonl").touch()
        return original(*args, **kwargs)

    monkeypatch.setattr(module, "updates", written)
    monkeypatch.setattr(module, "interruptions", Asked)
    with pytest.raises(AprError):
        pretrain(spec(tmp_path / "run", **PARTS[part]), Silent())
    monkeypatch.undo()
    assert (tmp_path / "run" / state_name(5) / "model.apr").is_file()
    assert noes(tmp_path / "run") == []
    resume(tmp_path / "run")
    assert results(tmp_path / "run") == results(undisturbed[part])


@pytest.fixture
def stopped(spec: Make, tmp_path: Path) -> Path:
    """A LoRA run that was killed after step 5: its last state is that of step 3."""
    with dies():
        pretrain(spec(tmp_path / "run", save="blocking", **LORA), Killer(5))
    return tmp_path / "run"


def flip(path: Path, at: int = -9) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def reseal(run_dir: Path, **values: Any) -> None:
    """Edit the state, with a digest that holds."""
    state = replace(read_state(run_dir, 3), **values)
    write_json(run_dir / state_name(3) / "progress.json", state.to_dict())


def other_merge(run_dir: Path) -> None:
    """The checkpoint of the state becomes another run's, and the state names it."""
    shutil.copy(run_dir.with_name("other") / "ckpt/epoch-001.apr", run_dir / "ckpt/epoch-001.apr")
    with open_apr(run_dir / "ckpt/epoch-001.apr", "structure") as file:
        reseal(run_dir, weights_digest=file.file_digest)


OTHERS: list[Callable[[Path], Any]] = [
    lambda run: flip(run / state_name(3) / "adapters.safetensors"),
    lambda run: flip(run / "ckpt/epoch-001.apr", -3000),  # a last bit, which two merges may differ by
    lambda run: reseal(run, adapters_sha="0" * 64),
    lambda run: reseal(run, weights_digest="0" * 64),
    other_merge,
]


@pytest.mark.parametrize("spoil", OTHERS)
def test_other_adapters_are_refused_by_their_gate_alone(
    spoil: Callable[[Path], Any], stopped: Path, spec: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    if spoil is other_merge:
        pretrain(spec(stopped.with_name("other"), num_steps=3, lr=2e-3, **LORA), Silent())
    spoil(stopped)
    again = Path(shutil.copytree(stopped, stopped.with_name("again")))
    with pytest.raises(StepZeroRefused) as caught:
        resume(stopped)
    assert caught.value.gate == "resume.subset"
    original = certify_resume.subset_gate
    monkeypatch.setattr(
        certify_resume, "subset_gate", lambda *given: replace(original(*given), verdict="yes", cause="")
    )
    with suppress(StepZeroRefused):  # adapters that were not loaded show in the loss
        resume(again)
    numbers = [read_json(path)["gates"] for path in (again / "resumes").glob("*.json")]
    assert "resume.loss" in {gate["id"] for gate in numbers[-1]}  # it got past


def test_adapters_that_are_missing_or_none_name_themselves(stopped: Path) -> None:
    path = stopped / state_name(3) / "adapters.safetensors"
    shutil.copy(stopped / state_name(3) / "optimizer.safetensors", path)
    from apr.base.files import sha256_file

    reseal(stopped, adapters_sha=sha256_file(path))
    with pytest.raises(StateBad):
        resume(stopped)
    path.unlink()
    with pytest.raises(StateBad) as caught:
        resume(stopped)
    assert caught.value.step == 3


def test_the_base_may_lie_elsewhere_and_no_other_is_taken(
    spec: Make, tiny_apr: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    base = Path(shutil.copy(tiny_apr, tmp_path / "base.apr"))
    with dies():
        pretrain(spec(tmp_path / "run", init=base, **LORA), Killer(7))
    base.unlink()
    with pytest.raises(AprError) as missing:
        resume(tmp_path / "run")
    assert missing.value.id == "APR101"
    with pytest.raises(ResumeDiffers) as caught:
        resume(tmp_path / "run", init=make_model(tmp_path / "other.apr", seed=1))
    assert caught.value.option == "--init"
    resume(tmp_path / "run", init=tiny_apr)
    assert results(tmp_path / "run") == results(undisturbed["lora"])


def test_another_part_is_another_run_and_the_same_may_be_repeated(stopped: Path) -> None:
    for given, option in (({"lora": "r=5"}, "--lora"), ({"freeze": ("*norm*",)}, "--freeze")):
        with pytest.raises(ResumeDiffers) as caught:
            resume(stopped, **given)
        assert caught.value.option == option
    assert resume(stopped, lora="r=4")["outcome"] == "BUDGET_DONE"


def test_adapters_go_with_their_checkpoints(spec: Make, tmp_path: Path) -> None:
    pretrain(spec(tmp_path / "run", steps_per_epoch=1, keep="last:1", **LORA), Silent())
    kept = {path.stem for path in (tmp_path / "run/ckpt").glob("*.apr")}
    assert (
        {path.stem for path in (tmp_path / "run/ckpt").glob("*.adapter")}
        == kept
        < {f"epoch-00{n}" for n in range(8)}
    )
    assert noes(tmp_path / "run") == []


def test_killed_in_every_write_of_a_save(
    spec: Make, undisturbed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die at the n-th rename of the whole run, for every n."""
    originals = {"replace": os.replace, "rename": os.rename}
    for number in range(1, 60):
        run_dir, left = tmp_path / f"run{number}", [number]

        def dying(name: str, left: list[int] = left) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                return originals[name](*args, **kwargs)

            return call

        for name in originals:
            monkeypatch.setattr(os, name, dying(name))
        with dies(surely=False):
            pretrain(spec(run_dir, save="blocking", num_steps=2, steps_per_epoch=1, **LORA), Silent())
        monkeypatch.undo()
        if (run_dir / "record.json").is_file():
            break  # it came to its end
        if (run_dir / "plan.json").is_file():
            resume(run_dir)
            assert noes(run_dir) == [], number
            shutil.rmtree(run_dir)
    assert number > 14


# --- what verify sees ----------------------------------------------------------------------------


def edit(run_dir: Path, **values: Any) -> None:
    path = run_dir / "ckpt/epoch-002.metadata.json"
    document = read_json(path)
    write_json(path, {**document, "merge": {**document["merge"], **values}})


EDITS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda run: edit(run, gap=1.0), "ckpt/epoch-002.merge"),
    (lambda run: edit(run, num_changed=7), "ckpt/epoch-002.merge"),
    (lambda run: edit(run, limit=0.1), "ckpt/epoch-002.merge"),
    (lambda run: edit(run, base_digest="0" * 64), "ckpt/epoch-002.merge"),
    (lambda run: edit(run, lora="r=8"), "ckpt/epoch-002.merge"),
    (lambda run: flip(run / "ckpt/epoch-002.adapter/adapter_model.safetensors"), "ckpt/epoch-002.merge"),
    (lambda run: flip(run / "state/step-00000007/adapters.safetensors"), "state/step-00000007.adapters"),
    (
        lambda run: write_json(run / "ckpt/epoch-002.adapter/adapter_config.json", {"r": 4}),
        "ckpt/epoch-002.adapter",
    ),
    (lambda run: shutil.rmtree(run / "ckpt/epoch-002.adapter"), "ckpt/epoch-002.merge"),
]


@pytest.mark.parametrize(("spoil", "check"), EDITS)
def test_an_edit_is_seen(
    spoil: Callable[[Path], Any], check: str, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(undisturbed["lora"], tmp_path / "run"))
    spoil(run_dir)
    assert check in noes(run_dir)


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_whose_frozen_part_is_another_is_seen_from_the_files_alone(
    part: str, spec: Make, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other.apr", seed=1)
    pretrain(spec(tmp_path / "other", init=other, **PARTS[part]), Silent())
    run_dir = Path(shutil.copytree(undisturbed[part], tmp_path / "run"))
    shutil.copy(tmp_path / "other/ckpt/epoch-002.apr", run_dir / "ckpt/epoch-002.apr")
    assert "ckpt/epoch-002.frozen" in noes(run_dir)


def test_a_merge_of_another_base_is_seen_with_the_base_at_hand(
    undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other.apr", seed=1)
    assert {f"ckpt/epoch-00{n}.merged" for n in (1, 2, 3)} <= set(noes(undisturbed["lora"], init=other))
