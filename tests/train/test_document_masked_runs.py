"""A run with --document-mask: the mask is in training and validation alike, recorded, resumed, and judged."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apr.aprfile.reader import open_apr
from apr.base.errors import Interrupted
from apr.data.encode import EncodeOptions, encode_corpus
from apr.data.errors import NoSeparators
from apr.data.shards import open_dataset
from apr.model.adapters import loss_sum
from apr.model.load import load_decoder
from apr.stepzero.registry import OF_DOCUMENTS
from apr.tokenizer.engine import TextTokenizer
from apr.train.errors import ResumeDiffers
from apr.train.estimate import estimate
from apr.train.memory import memory_terms
from apr.train.plan import RunPlan, resolve
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent, StepFigures
from apr.train.spec import RunSpec
from apr.workflows.evaluating import evaluate_model
from apr.workflows.verifying import verify
from tiny import CONFIG, make_corpus, make_tokenizer, read_json

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK: dict[str, Any] = {
    "num_steps": 4, "batch_size": 2, "seq_length": 96, "steps_per_epoch": 2, "val_tokens": 960,
    "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 2, "document_mask": True,
}  # fmt: skip


class Stops(Silent):
    """Ends the run as Ctrl-C does, when it reports a step."""

    def step(self, figures: StepFigures) -> None:
        if figures.step == 3:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def spec(tiny_apr: Path, tiny_shards: Path) -> Callable[..., RunSpec]:
    def make(run_dir: Path, **changes: Any) -> RunSpec:
        return RunSpec(**{"init": tiny_apr, "dataset": tiny_shards, "run_dir": run_dir, **QUICK, **changes})

    return make


@pytest.fixture(scope="module")
def runs(
    one_thread: None, spec: Callable[..., RunSpec], tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, Path]:
    """A run with the mask, and one without."""
    made = {}
    for on in (True, False):
        made[on] = tmp_path_factory.mktemp("runs") / "run"
        pretrain(spec(made[on], document_mask=on), Silent())
    return made


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_plan_and_certificate_say_so(runs: dict[bool, Path]) -> None:
    for on, run_dir in runs.items():
        plan = RunPlan.from_dict(read_json(run_dir / "plan.json"))
        assert (plan.document_mask, plan.sources["document_mask"]) == (
            (True, "--document-mask") if on else (False, "default")
        )
        certificate = read_json(run_dir / "certificate.json")
        judged = {gate["id"]: gate for gate in certificate["gates"]}
        assert (judged.keys() >= OF_DOCUMENTS) is on
        assert (not judged.keys() & OF_DOCUMENTS) is not on
        assert certificate["verdict"] == "yes"
        if on:
            assert {judged[name]["verdict"] for name in OF_DOCUMENTS} == {"yes"}
            assert judged["data.documents"]["facts"]["num_boundaries"] >= 4
            assert judged["loss.documents"]["facts"]["num_documents"] >= 2


def test_what_was_planned_is_consumed_token_for_token(runs: dict[bool, Path]) -> None:
    """The token behind a separator counts, so the mask changes no count."""
    for line, other in zip(*(metrics(run_dir) for run_dir in runs.values()), strict=True):
        assert line["tokens_seen"] == other["tokens_seen"]
        assert line["train_loss"] != other["train_loss"]
    assert read_json(runs[True] / "record.json")["tokens"] == 4 * 2 * 96


def test_the_validation_loss_is_that_of_the_documents_alone(
    runs: dict[bool, Path], tiny_shards: Path
) -> None:
    """Neither our mask nor our batches are used: documents come from the dataset's list of them."""
    dataset = open_dataset(tiny_shards / "val")
    with open_apr(runs[True] / "ckpt/epoch-002.apr", "structure") as file:
        score = loss_sum(load_decoder(file, torch.device("cpu")).decoder, torch.float32)
        total = 0.0
        for window in range(10):
            start, stop = window * 96, (window + 1) * 96
            inside = [s for s in dataset.document_starts.tolist() if start < s < stop]
            for a, b in zip([start, *inside], [*inside, stop], strict=True):
                tokens = torch.from_numpy(dataset.slice(a, b + 1).astype(np.int64))[None]
                total += score(tokens[:, :-1], tokens[:, 1:])
    masked, plain = (read_json(runs[on] / "ckpt/epoch-002.metadata.json")["val_loss"] for on in (True, False))
    assert masked == pytest.approx(total / 960, rel=1e-6)
    assert plain != pytest.approx(total / 960, rel=1e-5)


def test_apr_eval_gives_the_same_loss_again(runs: dict[bool, Path], tiny_shards: Path) -> None:
    options: dict[str, Any] = {"dataset": tiny_shards / "val", "max_tokens": 960, "seq_length": 96}
    for on, run_dir in runs.items():
        for asked in (True, False):
            found = evaluate_model(
                run_dir / "ckpt/epoch-002.apr", device="cpu", document_mask=asked, **options
            )
            said = read_json(run_dir / "ckpt/epoch-002.metadata.json")["val_loss"]
            assert found["document_mask"] is asked
            assert (found["loss"] == pytest.approx(said, rel=1e-6)) is (asked is on)


def test_a_run_is_verified_from_its_files(runs: dict[bool, Path]) -> None:
    assert verify(runs[True])["verdict"] == "yes"


def test_a_certificate_without_the_masks_gates_is_no_certificate_of_the_plan(
    runs: dict[bool, Path], tmp_path: Path
) -> None:
    """The plan asks for the mask, and the gates are those of a run without."""
    checks = {check["id"]: check for check in _verified_with_plan(runs, tmp_path)}
    assert checks["certificate.needed"]["verdict"] == "no"
    assert all(name in checks["certificate.needed"]["found"] for name in OF_DOCUMENTS)


def _verified_with_plan(runs: dict[bool, Path], folder: Path) -> list[dict[str, Any]]:
    for path in runs[False].rglob("*"):
        if path.is_file():
            copy = folder / path.relative_to(runs[False])
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (folder / "plan.json").write_bytes((runs[True] / "plan.json").read_bytes())
    return verify(folder)["checks"]


def test_a_resumed_run_ends_in_the_same_bytes(
    runs: dict[bool, Path], spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        pretrain(spec(tmp_path / "run"), Stops())
    pretrain(RunSpec(run_dir=tmp_path / "run", resume=True, document_mask=True), Silent())
    certificate = read_json(tmp_path / "run/resumes/001.json")
    assert {gate["id"] for gate in certificate["gates"]} >= OF_DOCUMENTS
    assert (certificate["verdict"], certificate["not_judged"]) == ("yes", [])
    for name in ("ckpt/epoch-002.apr", "state/step-00000004/optimizer.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (runs[True] / name).read_bytes()


def test_a_mask_is_not_added_to_a_run_that_began_without(
    spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        pretrain(spec(tmp_path / "run", document_mask=False), Stops())
    with pytest.raises(ResumeDiffers) as caught:
        pretrain(RunSpec(run_dir=tmp_path / "run", resume=True, document_mask=True), Silent())
    assert caught.value.option == "--document-mask"


@pytest.mark.parametrize("command", [pretrain, estimate])
def test_shards_without_separators_are_refused_before_anything_is_written(
    spec: Callable[..., RunSpec], tmp_path: Path, command: Any
) -> None:
    options = EncodeOptions(val_fraction=0.2, eos_policy="none")
    dataset = tmp_path / "shards"
    encode_corpus([make_corpus(tmp_path / "text")], TextTokenizer(make_tokenizer()), dataset, options=options)
    asked = spec(tmp_path / "run", dataset=dataset)
    with pytest.raises(NoSeparators) as caught:
        command(asked, Silent())
    assert caught.value.folder == str(dataset)
    assert not (tmp_path / "run").exists()
    command(replace(asked, document_mask=False), Silent())


def test_the_mask_is_in_the_estimate_once_for_all_heads_and_layers(spec: Callable[..., RunSpec]) -> None:
    on, off = (
        memory_terms(
            resolve(spec(Path("r"), batch_size=8, seq_length=512, document_mask=mask)), CONFIG, dtype
        )
        for mask, dtype in ((True, "fp32"), (False, "fp32"))
    )
    assert (on.mask, off.mask) == (8 * 512 * 512 * 4, 0)
    assert on.live - off.live == on.mask
    narrow = memory_terms(resolve(spec(Path("r"), batch_size=8, seq_length=512)), CONFIG, "bf16")
    assert narrow.mask == on.mask // 2
    alone = memory_terms(resolve(spec(Path("r"), num_steps=0, batch_size=8, seq_length=512)), CONFIG, "fp32")
    assert alone.mask in (0, 512 * 512 * 4)  # row by row


def test_a_plan_measures_its_pace_with_the_mask(spec: Callable[..., RunSpec], tmp_path: Path) -> None:
    found = estimate(spec(tmp_path / "run"), Silent())
    assert found["plan"]["values"]["document_mask"] == {"value": True, "source": "--document-mask"}
    assert found["memory"]["mask"] in (0, 2 * 96 * 96 * 4)
    assert found["seconds_per_step"] > 0
