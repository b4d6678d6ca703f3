"""A run directory holds as it was written, however the run ended; and every edit of any of its files is found."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from apr.base.errors import AprError, FileMissing, OutOfMemory
from apr.base.files import canonical_json, sha256_bytes, write_json
from apr.evals.loss import EvalLoss
from apr.stepzero.verify_errors import NothingToVerify
from apr.train import loop as loop_module
from apr.train import run as run_module
from apr.train.pretrain import pretrain
from apr.train.reporter import Silent, StepFigures
from apr.train.spec import RunSpec
from apr.workflows.verifying import verify
from tiny import QWEN_LIKE, make_corpus, make_model, make_shards, read_json

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK: dict[str, Any] = {
    "num_steps": 5, "batch_size": 2, "seq_length": 32, "grad_accum": 2, "steps_per_epoch": 2,
    "val_tokens": 256, "device": "cpu", "dtype": "fp32", "lr": 1e-3, "warmup_steps": 2,
}  # fmt: skip
Runner = Callable[..., Path]
Edit = Callable[[Path], None]


@pytest.fixture(scope="module")
def run(
    one_thread: None, tiny_apr: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Runner:
    """Run the tiny model with changes, to whatever end; returns the run directory."""

    def start(reporter: Any = None, **changes: Any) -> Path:
        folder: Path = tmp_path_factory.mktemp("runs") / "run"
        spec = RunSpec(**{"init": tiny_apr, "dataset": tiny_shards, "run_dir": folder, **QUICK, **changes})
        with suppress(AprError):  # that is how some runs end; the record says so
            pretrain(spec, reporter or Silent())
        return folder

    return start


@pytest.fixture(scope="module")
def healthy(run: Runner) -> Path:
    return run()


@pytest.fixture(scope="module")
def other(run: Runner) -> Path:
    """A run with another seed."""
    return run(seed=7)


@pytest.fixture
def copied(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "run"))


def noes(path: Path, **inputs: Any) -> list[str]:
    result = verify(path, **inputs)
    found = [check["id"] for check in result["checks"] if check["verdict"] == "no"]
    assert result["verdict"] == ("no" if found else "yes")
    json.dumps(result, allow_nan=False)
    return found


def verdicts(path: Path, **inputs: Any) -> dict[str, str]:
    return {check["id"]: check["verdict"] for check in verify(path, **inputs)["checks"]}


# --- what was written holds -----------------------------------------------------------------------


def test_a_run_holds_alone_and_says_what_would_tell_more(healthy: Path) -> None:
    found = verdicts(healthy)
    assert {name for name, verdict in found.items() if verdict != "yes"} == {
        *("init.file", "dataset.train", "dataset.validation")
    }
    result = verify(healthy)
    assert (result["verdict"], result["digest"]) == ("yes", read_json(healthy / "certificate.json")["digest"])
    needs = {check["expected"] for check in result["checks"] if check["verdict"] == "not known"}
    assert needs == {"--init with the checkpoint", "--dataset with the folder of shards"}
    assert len(result["not_rederived"]) > 4


def test_a_run_holds_with_what_went_in(healthy: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    found = verdicts(healthy, init=tiny_apr, dataset=tiny_shards)
    assert set(found.values()) == {"yes"}
    for part in (
        "init.file",
        "init.grade",
        "init.reference",
        "dataset.order",
        "dataset.tokens",
        "dataset.split",
    ):
        assert part in found


def test_validation_shards_from_elsewhere_are_asked_for(
    run: Runner, tiny_shards: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(tiny_shards / "val", tmp_path / "elsewhere")
    folder = run(val_shard=elsewhere)
    assert verdicts(folder, dataset=tiny_shards)["dataset.validation"] == "not known"
    assert noes(folder, dataset=tiny_shards, val_shard=elsewhere) == []
    assert noes(folder, dataset=tiny_shards, val_shard=tiny_shards) == ["dataset.validation", "dataset.split"]


def test_its_certificate_holds_alone(healthy: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    path = healthy / "certificate.json"
    assert noes(path) == []
    found = verdicts(path, init=tiny_apr, dataset=tiny_shards)
    assert set(found.values()) == {"yes"}
    assert {"init.file", "dataset.train", "dataset.ids"} <= set(found)
    assert not {"metrics.steps", "dataset.order"} & set(found)  # those need the run


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
    ("step", "epoch", "outcome"),
    [
        (1, 0, "INTERRUPTED"),
        (2, 0, "INTERRUPTED"),
        (3, 0, "INTERRUPTED"),
        (5, 0, "INTERRUPTED"),
        (0, 1, "INTERRUPTED"),
        (0, 3, "BUDGET_DONE"),
    ],
)
def test_an_interrupted_run_holds(
    run: Runner, step: int, epoch: int, outcome: str, tiny_apr: Path, tiny_shards: Path
) -> None:
    folder = run(Interrupting(step, epoch))
    assert read_json(folder / "record.json")["outcome"] == outcome
    assert noes(folder, init=tiny_apr, dataset=tiny_shards) == []


@pytest.mark.parametrize(
    "changes", [{"num_steps": 0}, {"num_steps": 2, "target_val_loss": 100.0}, {"num_steps": 2}]
)
def test_short_runs_hold(run: Runner, changes: dict[str, Any], tiny_apr: Path, tiny_shards: Path) -> None:
    assert noes(run(**changes), init=tiny_apr, dataset=tiny_shards) == []


def test_a_run_through_its_corpus_twice_holds(
    run: Runner, tiny_apr: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    """The short last window is met on the way, and every count of tokens is still the one that follows."""
    small = make_shards(tmp_path / "shards", documents=8)
    changes = {"dataset": small, "allow_shard_cycle": True, "num_steps": 45, "steps_per_epoch": 45}
    folder = run(**changes, seq_length=96)
    record, plan = read_json(folder / "record.json"), read_json(folder / "plan.json")["values"]
    assert record["tokens"] < 45 * 4 * plan["seq_length"]["value"]
    assert noes(folder, init=tiny_apr, dataset=small) == []
    assert "dataset.train" in noes(folder, dataset=tiny_shards)


def test_a_run_from_scratch_holds(run: Runner, healthy: Path, tiny_apr: Path, tmp_path: Path) -> None:
    config = next(g for g in read_json(healthy / "certificate.json")["gates"] if g["id"] == "file.config")
    (tmp_path / "arch.json").write_text(json.dumps(config["facts"]["config"]))
    folder = run(init=None, arch=str(tmp_path / "arch.json"), tokenizer=tiny_apr, mode="from-scratch")
    assert read_json(folder / "record.json")["outcome"] == "BUDGET_DONE"
    assert noes(folder) == []
    assert noes(folder, init=tiny_apr)[0] == "init.file"


def scripted(losses: list[float]) -> Callable[..., EvalLoss]:
    values: Iterator[float] = iter(losses)
    return lambda *_: EvalLoss(loss=next(values), standard_error=0.1, num_tokens=9, num_sequences=3)


@pytest.mark.parametrize(
    ("losses", "outcome"), [([5.0, 4.0, 4.1, 4.2, 1.0], "EARLY_STOP"), ([4.0, 8.5], "DIVERGED")]
)
def test_runs_that_end_themselves_hold(
    run: Runner, monkeypatch: pytest.MonkeyPatch, losses: list[float], outcome: str
) -> None:
    monkeypatch.setattr(run_module, "validation_loss", scripted(losses))
    folder = run(steps_per_epoch=1)
    assert read_json(folder / "record.json")["outcome"] == outcome
    assert noes(folder) == []
    edit_json("record.json", outcome="BUDGET_DONE")(folder)
    assert "record.outcome" in noes(folder)


def test_a_run_that_met_a_nan_holds(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    real, steps = loop_module._require_finite, []

    def poisoned(step: int, loss: float, grad_norm: float) -> None:
        steps.append(step)
        real(step, math.nan if step == 4 else loss, grad_norm)

    monkeypatch.setattr(loop_module, "_require_finite", poisoned)
    folder = run()
    assert read_json(folder / "record.json")["outcome"] == "DIVERGED"
    assert noes(folder) == []


def test_a_refused_run_holds_and_may_have_no_steps(run: Runner, tmp_path: Path) -> None:
    def lie(metadata: dict[str, Any]) -> None:
        metadata["apr_pretrain"]["reference"]["loss"] += 0.01

    init = make_model(tmp_path / "m.apr", edit_metadata=lie)
    folder = run(init=init)
    assert read_json(folder / "certificate.json")["verdict"] == "no"
    assert noes(folder, init=init) == []
    (folder / "ckpt").mkdir()
    shutil.copy(init, folder / "ckpt" / "epoch-001.apr")
    assert {"ckpt.files", "ckpt/epoch-001.lineage"} <= set(noes(folder))
    edit_json("record.json", checkpoints=["ckpt/epoch-001.apr"])(folder)
    write_json(folder / "ckpt" / "epoch-001.metadata.json", METADATA)
    assert "run.permitted" in noes(folder)


METADATA = {
    **dict.fromkeys(("train_loss", "val_loss", "val_gain_noise", "train_ppl", "val_ppl", "grad_norm_max")),
    **dict.fromkeys(("epoch", "step", "tokens_seen", "wall_seconds"), 0),
    "val_standard_error": None,
    **dict.fromkeys(("optimizer_state_sha", "file_digest"), ""),
}


def test_a_run_without_a_certificate_holds(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OutOfMemory(reason="a test")

    monkeypatch.setattr(run_module, "certify", fail)
    folder = run()
    assert noes(folder) == []
    assert verify(folder)["digest"] is None
    edit_json("record.json", steps=3)(folder)
    assert "metrics.steps" in noes(folder)


# --- synthetic runs --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthetic(run: Runner) -> Path:
    return run(synthetic=True, init=None)


def test_a_synthetic_run_holds(synthetic: Path) -> None:
    assert noes(synthetic) == []


def edit_line(number: int, **values: Any) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "metrics.jsonl"
        lines = path.read_text().splitlines()
        lines[number] = json.dumps({**json.loads(lines[number]), **values})
        path.write_text("\n".join(lines) + "\n")

    return edit


def edit_json(name: str, **values: Any) -> Edit:
    return lambda folder: write_json(folder / name, {**read_json(folder / name), **values})


SYNTHETIC_EDITS: dict[str, tuple[Edit, str]] = {
    "loss": (edit_line(2, train_loss=1.0), "metrics.scripted"),
    "kind of a line": (edit_line(2, kind="REAL"), "metrics.scripted"),
    "kind of the record": (edit_json("record.json", kind="REAL"), "synthetic.kind"),
    "kind of the plan": (edit_json("plan.json", kind="REAL"), "synthetic.kind"),
    "outcome": (edit_json("record.json", outcome="TARGET_MET"), "record.synthetic"),
    "speed": (edit_json("record.json", tokens_per_sec=1000.0), "record.synthetic"),
    "steps": (lambda folder: (folder / "metrics.jsonl").unlink(), "metrics.steps"),
    "best": (lambda folder: write_json(folder / "best.json", {}), "synthetic.files"),
}


@pytest.mark.parametrize("name", SYNTHETIC_EDITS)
def test_an_edit_of_a_synthetic_run_is_found(name: str, synthetic: Path, tmp_path: Path) -> None:
    edit, check_id = SYNTHETIC_EDITS[name]
    folder = Path(shutil.copytree(synthetic, tmp_path / "run"))
    edit(folder)
    assert check_id in noes(folder)


# --- edits ------------------------------------------------------------------------------------------


def drop_line(number: int) -> Edit:
    return lambda folder: rewrite_lines(folder, lambda lines: lines[:number] + lines[number + 1 :])


def double_line(number: int) -> Edit:
    return lambda folder: rewrite_lines(folder, lambda lines: lines[: number + 1] + lines[number:])


def rewrite_lines(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = folder / "metrics.jsonl"
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


def flip(name: str, at: int) -> Edit:
    def edit(folder: Path) -> None:
        raw = bytearray((folder / name).read_bytes())
        raw[at] ^= 1
        (folder / name).write_bytes(raw)

    return edit


def edit_text(name: str, change: Callable[[str], str]) -> Edit:
    return lambda folder: (folder / name).write_text(change((folder / name).read_text()))


def edit_plan(name: str, value: Any, reseal: bool = False) -> Edit:
    """Change a value of the plan, and where asked its digest too."""

    def edit(folder: Path) -> None:
        plan = read_json(folder / "plan.json")
        plan["values"][name]["value"] = value
        if reseal:
            plan["digest"] = sha256_bytes(canonical_json({k: v["value"] for k, v in plan["values"].items()}))
        write_json(folder / "plan.json", plan)

    return edit


def edit_record_certificate(**values: Any) -> Edit:
    def edit(folder: Path) -> None:
        record = read_json(folder / "record.json")
        record["certificate"].update(values)
        write_json(folder / "record.json", record)

    return edit


def remove(name: str) -> Edit:
    return lambda folder: (folder / name).unlink()


def fewer_tokens(folder: Path, a_step: int = 10) -> None:
    """Let every step have seen so many tokens, in metrics and record."""
    for number in range(5):
        edit_line(number, tokens_seen=a_step * (number + 1))(folder)
    edit_json("record.json", tokens=a_step * 5)(folder)


def edit_gate(gate_id: str, **values: Any) -> Edit:
    """Change a gate of the certificate, or without values take it out."""

    def edit(folder: Path) -> None:
        document = read_json(folder / "certificate.json")
        for gate in list(document["gates"]):
            if gate["id"] == gate_id:
                gate.update(values)
                document["gates"] = [g for g in document["gates"] if g is not gate or values]
        write_json(folder / "certificate.json", document)

    return edit


MIDDLE = "ckpt/epoch-002"
EDITS: dict[str, tuple[Edit, str]] = {
    "certificate: a byte": (
        edit_text("certificate.json", lambda text: text.replace("\n", " \n", 1)),
        "certificate.bytes",
    ),
    "certificate: a figure": (
        edit_text("certificate.json", lambda text: text.replace('"val_loss": 5', '"val_loss": 4')),
        "certificate.digest",
    ),
    "certificate: missing": (remove("certificate.json"), "record.certificate"),
    "certificate: a gate of the update": (edit_gate("update.size"), "certificate.needed"),
    "plan: missing": (remove("plan.json"), "plan.bytes"),
    "plan: a space": (edit_text("plan.json", lambda text: text + " "), "plan.bytes"),
    "plan: a value": (edit_plan("lr", 1e-4), "plan.values"),
    "plan: a value of another kind": (edit_plan("lr", "1e-3"), "plan.values"),
    "plan: a value and its digest": (edit_plan("lr", 1e-4, reseal=True), "certificate.plan"),
    "plan: the schedule follows it": (edit_plan("schedule", "constant", reseal=True), "metrics.lr"),
    "plan: the seed": (edit_plan("seed", 43, reseal=True), f"{MIDDLE}.lineage"),
    "plan: more steps": (edit_plan("num_steps", 50, reseal=True), "record.outcome"),
    "plan: its digest": (edit_json("plan.json", digest="0" * 64), "plan.values"),
    "metrics: missing": (remove("metrics.jsonl"), "metrics.steps"),
    "metrics: the first line dropped": (drop_line(0), "metrics.steps"),
    "metrics: a line dropped": (drop_line(2), "metrics.steps"),
    "metrics: the last line dropped": (drop_line(4), "metrics.steps"),
    "metrics: a line doubled": (double_line(2), "metrics.steps"),
    "metrics: two lines exchanged": (
        lambda folder: rewrite_lines(folder, lambda rows: [rows[1], rows[0], *rows[2:]]),
        "metrics.steps",
    ),
    "metrics: a step": (edit_line(1, step=3), "metrics.steps"),
    "metrics: lr": (edit_line(2, lr=9.9e-4), "metrics.lr"),
    "metrics: loss": (edit_line(2, train_loss=5.0), f"{MIDDLE}.metadata"),
    "metrics: loss that is none": (
        edit_text(
            "metrics.jsonl", lambda text: text.replace('"train_loss": 5', '"train_loss": NaN, "x": 5', 1)
        ),
        "metrics.lines",
    ),
    "metrics: norm": (edit_line(2, grad_norm=99.0), f"{MIDDLE}.metadata"),
    "metrics: tokens": (edit_line(2, tokens_seen=385), "metrics.tokens"),
    "metrics: fewer tokens": (edit_line(1, tokens_seen=255), f"{'ckpt/epoch-001'}.metadata"),
    "metrics: tokens go back": (edit_line(2, tokens_seen=256), "metrics.tokens"),
    "metrics: tokens of every line": (fewer_tokens, "record.planned"),
    "metrics: no tokens": (lambda folder: fewer_tokens(folder, 0), "metrics.tokens"),
    "metrics: speed": (edit_line(0, tokens_per_sec=1e9), "record.tokens_per_sec"),
    "metrics: no speed": (edit_line(0, tokens_per_sec=0), "metrics.lines"),
    "metrics: a space": (
        edit_text("metrics.jsonl", lambda text: text.replace(", ", ",  ", 1)),
        "metrics.lines",
    ),
    "metrics: cut off": (edit_text("metrics.jsonl", lambda text: text[:-3]), "metrics.lines"),
    "record: missing": (remove("record.json"), "record.bytes"),
    "record: outcome": (edit_json("record.json", outcome="TARGET_MET"), "record.outcome"),
    "record: outcome of another kind": (edit_json("record.json", outcome="DONE"), "record.outcome"),
    "record: an error": (edit_json("record.json", error={"id": "APR612"}), "record.outcome"),
    "record: steps": (edit_json("record.json", steps=6), "metrics.steps"),
    "record: a field missing": (
        lambda folder: write_json(
            folder / "record.json",
            {k: v for k, v in read_json(folder / "record.json").items() if k != "error"},
        ),
        "record.fields",
    ),
    "record: tokens": (edit_json("record.json", tokens=641), "record.tokens"),
    "record: speed": (edit_json("record.json", tokens_per_sec=123456.0), "record.tokens_per_sec"),
    "record: validation loss": (edit_json("record.json", final_val_loss=1.5), "record.final_val_loss"),
    "record: a checkpoint fewer": (
        edit_json("record.json", checkpoints=["ckpt/epoch-001.apr", "ckpt/epoch-003.apr"]),
        "record.checkpoints",
    ),
    "record: a checkpoint twice": (
        edit_json("record.json", checkpoints=[f"ckpt/epoch-00{n}.apr" for n in (1, 2, 3, 3)]),
        "record.checkpoints",
    ),
    "record: no certificate": (edit_json("record.json", certificate=None), "record.certificate"),
    "record: the certificate's digest": (edit_record_certificate(digest="0" * 64), "record.certificate"),
    "record: the certificate's grade": (edit_record_certificate(grade="A"), "record.certificate"),
    "record: the certificate's gates": (edit_record_certificate(gates=[]), "record.certificate"),
    "checkpoint: its first byte": (flip(f"{MIDDLE}.apr", 0), f"{MIDDLE}.file"),
    "checkpoint: a byte of the metadata": (flip(f"{MIDDLE}.apr", 300), f"{MIDDLE}.file"),
    "checkpoint: a byte of a tensor": (flip(f"{MIDDLE}.apr", -5000), f"{MIDDLE}.file"),
    "checkpoint: the last byte": (flip(f"{MIDDLE}.apr", -1), f"{MIDDLE}.file"),
    "checkpoint: missing": (remove(f"{MIDDLE}.apr"), "ckpt.files"),
    "checkpoint: another epoch's": (
        lambda folder: shutil.copy(folder / "ckpt/epoch-001.apr", folder / f"{MIDDLE}.apr") and None,
        f"{MIDDLE}.lineage",
    ),
    "checkpoint: one too many": (
        lambda folder: shutil.copy(folder / f"{MIDDLE}.apr", folder / "ckpt/epoch-009.apr") and None,
        "ckpt.files",
    ),
    "metadata: missing": (remove(f"{MIDDLE}.metadata.json"), f"{MIDDLE}.metadata.bytes"),
    "metadata: a space": (
        edit_text(f"{MIDDLE}.metadata.json", lambda text: text.replace(": ", ":", 1)),
        f"{MIDDLE}.metadata.bytes",
    ),
    "metadata: digest": (edit_json(f"{MIDDLE}.metadata.json", file_digest="0" * 64), f"{MIDDLE}.file"),
    "metadata: step": (edit_json(f"{MIDDLE}.metadata.json", step=3), f"{MIDDLE}.metadata"),
    "metadata: epoch": (edit_json(f"{MIDDLE}.metadata.json", epoch=3), f"{MIDDLE}.metadata"),
    "metadata: tokens": (edit_json(f"{MIDDLE}.metadata.json", tokens_seen=1), f"{MIDDLE}.lineage"),
    "metadata: training loss": (edit_json(f"{MIDDLE}.metadata.json", train_loss=1.0), f"{MIDDLE}.metadata"),
    "metadata: validation loss": (edit_json(f"{MIDDLE}.metadata.json", val_loss=1.0), f"{MIDDLE}.metadata"),
    "metadata: perplexity": (edit_json(f"{MIDDLE}.metadata.json", val_ppl=1.0), f"{MIDDLE}.metadata"),
    "metadata: norm": (edit_json(f"{MIDDLE}.metadata.json", grad_norm_max=0.1), f"{MIDDLE}.metadata"),
    "metadata: the last loss": (
        edit_json("ckpt/epoch-003.metadata.json", val_loss=1.0, val_ppl=math.exp(1.0)),
        "record.final_val_loss",
    ),
    "metadata: the last state": (
        edit_json("ckpt/epoch-003.metadata.json", optimizer_state_sha="0" * 64),
        "state/step-00000005.progress",
    ),
    "state: a byte": (
        flip("state/step-00000005/optimizer.safetensors", -100),
        "state/step-00000005.optimizer",
    ),
    "state: missing": (remove("state/step-00000005/optimizer.safetensors"), "state/step-00000005.optimizer"),
    "state: no progress": (
        remove("state/step-00000005/progress.json"),
        "state/step-00000005.progress",
    ),
    "state: cursor": (
        edit_json("state/step-00000005/progress.json", cursor=8),
        "state/step-00000005.progress",
    ),
    "state: step": (edit_json("state/step-00000005/progress.json", step=4), "state/step-00000005.progress"),
    "state: digest": (
        edit_json("state/step-00000005/progress.json", optimizer_state_sha="0" * 64),
        "state/step-00000005.progress",
    ),
    "best: another": (
        edit_json("best.json", checkpoint="ckpt/epoch-001.apr", epoch=1),
        "best.lowest",
    ),
    "best: loss": (edit_json("best.json", val_loss=1.0), "best.lowest"),
    "best: missing": (remove("best.json"), "best.bytes"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_found(name: str, copied: Path) -> None:
    edit, check_id = EDITS[name]
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    edit(copied)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} != before
    assert check_id in noes(copied)


@pytest.mark.parametrize(
    "names",
    [
        ["ckpt/epoch-002.apr"],
        ["ckpt/epoch-002.apr", "ckpt/epoch-002.metadata.json"],
        ["state/step-00000005/optimizer.safetensors"],
        ["certificate.json"],
        ["plan.json"],
        ["metrics.jsonl"],
        ["record.json"],
        ["certificate.json", "plan.json", "record.json"],
        ["metrics.jsonl", "record.json"],
    ],
    ids=" and ".join,
)
def test_another_runs_files_are_found(names: list[str], copied: Path, other: Path) -> None:
    for name in names:
        assert (copied / name).read_bytes() != (other / name).read_bytes()
        shutil.copy(other / name, copied / name)
    assert noes(copied)


def test_a_loss_that_every_other_document_repeats_is_found_in_the_state(copied: Path) -> None:
    edit_json("ckpt/epoch-003.metadata.json", val_loss=3.0, val_ppl=math.exp(3.0))(copied)
    edit_json("record.json", final_val_loss=3.0)(copied)
    edit_json("best.json", val_loss=3.0, epoch=3, checkpoint="ckpt/epoch-003.apr")(copied)
    assert noes(copied) == ["state/step-00000005.progress"]


@pytest.mark.parametrize("name", ["plan.json", "record.json", "best.json", f"{MIDDLE}.metadata.json"])
@pytest.mark.parametrize("value", [None, True, "x", [], {}, 10**19, -1])
def test_no_kind_of_value_is_a_bug(name: str, value: Any, copied: Path) -> None:
    document = read_json(copied / name)
    for key in document:
        write_json(copied / name, {**document, key: value})
        verify(copied)
    write_json(copied / name, document)
    if name == "plan.json":
        for key in document["values"]:
            edit_plan(key, value, reseal=True)(copied)
            noes(copied)
            write_json(copied / name, document)


def test_files_that_are_no_part_are_named(copied: Path) -> None:
    (copied / "notes.txt").write_text("mine")
    (copied / "ckpt" / ".epoch-004.apr.x.tmp").write_text("half")
    check = next(check for check in verify(copied)["checks"] if check["id"] == "files.others")
    assert (check["verdict"], check["found"]) == ("not known", "ckpt/.epoch-004.apr.x.tmp, notes.txt")
    assert noes(copied) == []


# --- other inputs -----------------------------------------------------------------------------------


def test_another_checkpoint_is_found(healthy: Path, tmp_path: Path) -> None:
    found = noes(healthy, init=make_model(tmp_path / "m.apr", seed=3))
    assert found == ["init.file", "init.reference"]


def test_another_architecture_is_found(healthy: Path, tmp_path: Path) -> None:
    found = noes(healthy, init=make_model(tmp_path / "m.apr", QWEN_LIKE))
    assert found == ["init.file", "init.config", "init.reference"]


def test_a_checkpoint_with_another_grade_is_found(healthy: Path, tmp_path: Path) -> None:
    def claim(metadata: dict[str, Any]) -> None:
        metadata["apr_pretrain"]["reference"]["grade"] = "A"

    assert "init.grade" in noes(healthy, init=make_model(tmp_path / "m.apr", edit_metadata=claim))


def test_a_damaged_checkpoint_is_found(healthy: Path, tiny_apr: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_apr, tmp_path / "m.apr")
    flip("m.apr", -500)(tmp_path)
    assert noes(healthy, init=tmp_path / "m.apr") == ["init.file"]


@pytest.mark.parametrize(
    ("name", "check_id"),
    [("shard-00000.bin", "dataset.train"), ("val/shard-00000.bin", "dataset.validation")],
)
def test_changed_shards_are_found(
    healthy: Path, tiny_shards: Path, tmp_path: Path, name: str, check_id: str
) -> None:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    flip(name, 40)(folder)
    assert check_id in noes(healthy, dataset=folder)


@pytest.mark.parametrize(
    ("edit", "check_id"),
    [
        (edit_gate("tokens.ids", figure=300), "dataset.ids"),
        (edit_gate("tokens.split", figure=1), "dataset.split"),
        (edit_gate("data.order", facts={"order_sha256": "0" * 64}), "dataset.order"),
        (fewer_tokens, "dataset.tokens"),
    ],
)
def test_what_the_shards_contradict_is_found(
    edit: Edit, check_id: str, copied: Path, tiny_shards: Path
) -> None:
    edit(copied)
    assert check_id in noes(copied, dataset=tiny_shards)


def test_other_shards_are_found(healthy: Path, tmp_path: Path) -> None:
    found = noes(healthy, dataset=make_shards(tmp_path / "shards", documents=30))
    assert {"dataset.train", "dataset.validation", "dataset.order"} <= set(found)


def test_shards_too_few_for_the_plan_are_found(run: Runner, tmp_path: Path) -> None:
    long = run(num_steps=40, steps_per_epoch=40)
    found = noes(long, dataset=make_shards(tmp_path / "shards", documents=8))
    assert {"dataset.train", "dataset.plan"} <= set(found)


def test_shards_without_validation_leave_it_open(healthy: Path, tiny_shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    shutil.rmtree(folder / "val")
    found = verdicts(healthy, dataset=folder)
    assert (found["dataset.train"], found["dataset.validation"]) == ("yes", "not known")


def test_what_is_not_there_is_no_answer(healthy: Path, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        verify(tmp_path / "none")
    with pytest.raises(FileMissing):
        verify(healthy, init=tmp_path / "none.apr")
    with pytest.raises(FileMissing):
        verify(healthy, dataset=tmp_path / "none")
    with pytest.raises(NothingToVerify):
        verify(make_corpus(tmp_path / "text", 2))
    with pytest.raises(NothingToVerify):
        verify(healthy / "plan.json")
