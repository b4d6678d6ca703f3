"""What FALSIFY-APR-PRETRAIN-INIT-001 to -010 do: each a function that raises AssertionError when its claim is false."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from apr.aprfile.errors import (
    ArchContradiction,
    FactsBad,
    FileTruncated,
    MetadataContradiction,
    NotAprFile,
    TensorOutOfBounds,
)
from apr.aprfile.keys import OWN_KEY
from apr.aprfile.layout import header_checksum
from apr.aprfile.reader import open_apr
from apr.arch.config import TransformerConfig
from apr.arch.errors import ArchitectureUnsupported, ArchMismatch, ConfigFieldMissing
from apr.base.errors import FileMissing
from apr.cli import pretrain_command
from apr.stepzero.errors import StepZeroRefused
from apr.train import certify, pretrain
from apr.train.spec import RunSpec
from contracts.scene import (
    Run,
    Scene,
    call,
    foreign_keys,
    require_refusal,
    require_success,
    stamped_as,
    watch_allocations,
    write_foreign,
)
from tiny import CONFIG, make_model, make_weights

MODES = ("finetune", "from-scratch")
GOLDEN_LOSSES = Path(__file__).parents[1] / "golden" / "tiny_losses.json"
LOSS_TOLERANCE = 1e-5  # nats
REFERENCE_TOLERANCE = 1e-3  # nats
RECORD = {"outcome": "BUDGET_DONE", "steps": 0}


# INIT-001


def dispatched(*arguments: object) -> RunSpec:
    """The request that a command line becomes; nothing is run."""
    specs: list[RunSpec] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain_command, "pretrain", lambda spec, reporter: specs.append(spec) or RECORD)
        outcome = call("pretrain", "--dataset", "d", "--run-dir", "r", "--format", "json", *arguments)
    assert outcome.code == 0, f"exit code {outcome.code}: {outcome.stderr}"
    assert len(specs) == 1, f"{len(specs)} runs were dispatched"
    return specs[0]


def option_parses(scene: Scene) -> None:
    """INIT-001: absent is None, present is a path, in every mode; the help names it; a value is demanded."""
    for mode in ((), *(("--mode", mode) for mode in MODES)):
        absent = dispatched(*mode)
        assert absent.init is None, f"absent with {mode} gives {absent.init!r}"
        for spelling in (("--init", "model.apr"), ("--init=model.apr",)):
            present = dispatched(*mode, *spelling)
            assert present.init == Path("model.apr"), f"present with {mode} gives {present.init!r}"
            assert replace(present, init=None) == absent, f"--init with {mode} changes another value"
    page = call("pretrain", "--help")
    assert page.code == 0
    assert re.search(r"^\s+--init PATH\s+\w+", page.stdout, re.MULTILINE), "the help does not name --init"
    assert call("pretrain", "--dataset", "d", "--run-dir", "r", "--init").code == 2, (
        "--init without a value passed"
    )


# INIT-002


def golden_run(scene: Scene, mode: str) -> dict[str, Any]:
    """The losses of a run from scratch through the command line."""
    options = ("--arch", scene.arch, "--mode", mode, "--warmup-steps", 2, "--steps-per-epoch", 4)
    run = require_success(scene.pretrain(*options, steps=8))
    return {
        "step0_val_loss": run.certificate["step0"]["val_loss"],
        "train_loss": [line["train_loss"] for line in run.metrics],
        "val_loss": [run.read(f"ckpt/epoch-00{epoch}.metadata.json")["val_loss"] for epoch in (1, 2)],
    }


def shard_digests(scene: Scene) -> list[str]:
    manifests = [json.loads((scene.shards / part / "manifest.json").read_bytes()) for part in (".", "val")]
    return [shard["sha256"] for manifest in manifests for shard in manifest["shards"]]


def absence_keeps_golden_losses(scene: Scene, mode: str) -> None:
    """INIT-002: without --init, the losses of the tiny model are the recorded ones."""
    golden = json.loads(GOLDEN_LOSSES.read_bytes())
    assert shard_digests(scene) == golden["shards_sha256"], (
        "the corpus is not the one the losses were recorded on"
    )
    found, expected = golden_run(scene, mode), golden["losses"][mode]
    pairs = [("step0_val_loss", [found["step0_val_loss"]], [expected["step0_val_loss"]])]
    pairs += [(name, found[name], expected[name]) for name in ("train_loss", "val_loss")]
    for name, ours, theirs in pairs:
        gaps = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
        assert max(gaps) <= LOSS_TOLERANCE, f"{mode}: {name} is {ours}, recorded {theirs}"


# INIT-003, 004


def missing_file_is_refused(scene: Scene) -> None:
    """INIT-003: nothing, a folder and a dangling link are each refused before any allocation, named, with an id."""
    nothing, folder, link = scene.new("absent.apr"), scene.new("folder.apr"), scene.new("link.apr")
    folder.mkdir()
    link.symlink_to(nothing)
    for path in (nothing, folder, link):
        # --arch agrees with the run that a fallback to random weights would make.
        require_refusal(
            scene, "--init", path, "--arch", scene.arch, id=FileMissing.id, code=2, says=(str(path),), steps=1
        )


def with_magic(content: bytes, magic: bytes) -> bytes:
    """A file that is whole but for its magic: only that stands between it and a run."""
    head = magic + content[4:64]
    head = head[:40] + header_checksum(head).to_bytes(4, "little") + head[44:]
    body = head + content[64:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def damaged_starts(scene: Scene) -> dict[str, tuple[bytes, str]]:
    """Files with a wrong magic, empty or short ones, with the id that each is refused by."""
    content = scene.model.read_bytes()
    foreign = {"a wrong magic": with_magic(content, b"XYZ\0"), "GGUF": with_magic(content, b"GGUF")}
    foreign |= {"empty": b"", "zeros": bytes(4096), "one byte": b"A", "text": b"not a model\n" * 99}
    short = {"half a header": content[:32], "a header": content[:64], "no footer": content[:-4]}
    named = {name: (raw, NotAprFile.id) for name, raw in foreign.items()}
    named |= {name: (raw, FileTruncated.id) for name, raw in short.items()}
    return named | {"half": (content[: len(content) // 2], TensorOutOfBounds.id)}


def wrong_magic_is_refused(scene: Scene) -> None:
    """INIT-004: a wrong magic, an empty and a short file are refused before any allocation."""
    for name, (content, id) in damaged_starts(scene).items():
        path = scene.write_bytes(content)
        try:
            require_refusal(scene, "--init", path, "--arch", scene.arch, id=id, says=(str(path),), steps=1)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


# INIT-005

# What each of the seven shapes is said to be, against what the tensors are, and the words for it in a refusal.
LIES: dict[str, tuple[int, tuple[str, ...]]] = {
    "vocab_size": (352, ("vocab_size is 352 there and 320 in the tensors",)),
    "hidden_size": (96, ("hidden_size is 96 there and 64 in the tensors",)),
    "num_attention_heads": (8, ("num_attention_heads * head_dim is 128 there and 64 in the tensors",)),
    "num_key_value_heads": (4, ("num_key_value_heads * head_dim is 64 there and 32 in the tensors",)),
    "intermediate_size": (128, ("intermediate_size is 128 there and 256 in the tensors",)),
    "num_hidden_layers": (3, ("num_hidden_layers is 3 there and 2 in the tensors",)),
}


def lying_model(scene: Scene, **lies: Any) -> Path:
    edit = stamped_as(replace(CONFIG, **lies))
    return make_model(scene.new("lying.apr"), tokenizer=scene.tokenizer, oracle="none", edit_metadata=edit)


def edited_model(scene: Scene, edit: Callable[[dict[str, Any]], None]) -> Path:
    return make_model(scene.new("edited.apr"), tokenizer=scene.tokenizer, oracle="none", edit_metadata=edit)


def missing_architectures(scene: Scene) -> list[tuple[Path, str, tuple[str, ...]]]:
    """Files that do not say what they are: (file, id, words)."""

    def drop_config(metadata: dict[str, Any]) -> None:
        del metadata[OWN_KEY]["config"]

    def drop_fields(metadata: dict[str, Any]) -> None:
        for name in ("hidden_size", "rope_theta"):
            del metadata[OWN_KEY]["config"][name]

    unstamped = {key: value for key, value in foreign_keys(CONFIG).items() if "architecture" not in key}
    unstamped.pop("hf_model_type")
    return [
        (edited_model(scene, drop_config), FactsBad.id, (f"{OWN_KEY}.config",)),
        (edited_model(scene, drop_fields), ConfigFieldMissing.id, ("hidden_size, rope_theta",)),
        (
            write_foreign(scene.new("unstamped.apr"), unstamped, make_weights(CONFIG)),
            ConfigFieldMissing.id,
            ("architecture",),
        ),
    ]


def bogus_architectures(scene: Scene) -> list[tuple[Path, str, tuple[str, ...]]]:
    """Files that claim to be what no decoder here is: (file, id, words)."""

    def mamba(metadata: dict[str, Any]) -> None:
        metadata[OWN_KEY]["config"]["family"] = "mamba"

    stamp = {
        "architecture": "MambaForCausalLM",
        "hf_architecture": "MambaForCausalLM",
        "hf_model_type": "mamba",
    }
    foreign = write_foreign(scene.new("mamba.apr"), foreign_keys(CONFIG) | stamp, make_weights(CONFIG))
    return [
        (edited_model(scene, mamba), ArchitectureUnsupported.id, ("mamba",)),
        (foreign, ArchitectureUnsupported.id, ("MambaForCausalLM",)),
    ]


def mismatching_architectures(scene: Scene) -> list[tuple[Path, str, tuple[str, ...]]]:
    """Files that say another shape than their tensors have, or two things at once: (file, id, words)."""
    cases = [
        (lying_model(scene, **{name: lie}), ArchContradiction.id, says) for name, (lie, says) in LIES.items()
    ]
    several = ("vocab_size", "intermediate_size", "num_hidden_layers")
    words = tuple(text for name in several for text in LIES[name][1])
    cases.append(
        (lying_model(scene, **{name: LIES[name][0] for name in several}), ArchContradiction.id, words)
    )

    def two_positions(metadata: dict[str, Any]) -> None:
        metadata["max_position_embeddings"] = 2048

    # No tensor shows the positions: there the file can only contradict itself.
    path, words = edited_model(scene, two_positions), ("max_position_embeddings is 2048", "512")
    return [*cases, (path, MetadataContradiction.id, words)]


def bad_architecture_is_refused(scene: Scene) -> None:
    """INIT-005: a missing, bogus or mismatching architecture is refused, every field named with both values."""
    cases = [*missing_architectures(scene), *bogus_architectures(scene), *mismatching_architectures(scene)]
    for path, id, says in cases:
        require_refusal(scene, "--init", path, id=id, says=(str(path), *says), steps=1)
    other = replace(
        CONFIG, vocab_size=352, hidden_size=96, num_hidden_layers=3, rope_theta=5e5, tie_word_embeddings=False
    )
    pairs = [(name, getattr(other, name), getattr(CONFIG, name)) for name in changed_fields(other)]
    says = tuple(f"{name} {asked!r} there and {held!r} in the file" for name, asked, held in pairs)
    arch = scene.write_arch(other)
    require_refusal(scene, "--init", scene.model, "--arch", arch, id=ArchMismatch.id, says=says, steps=1)


def changed_fields(config: TransformerConfig) -> list[str]:
    return [name for name, value in config.to_dict().items() if value != CONFIG.to_dict()[name]]


# INIT-006


def step0_signal(
    step0: Mapping[str, float], *, val_at_most: float, random_at_least: float, gap: float
) -> None:
    """The claim of INIT-006 about the figures of a certificate, in nats."""
    val, random = step0["val_loss"], step0["random_init_loss"]
    assert 0 < val <= val_at_most, f"validation loss {val} with the checkpoint, the limit is {val_at_most}"
    assert random >= random_at_least, (
        f"validation loss {random} without it, at least {random_at_least} expected"
    )
    assert random - val >= gap, f"the gap is {random - val}, at least {gap} expected"
    delta = step0["reference_delta"]
    assert delta is not None, "the loss was compared with no reference"
    assert delta <= REFERENCE_TOLERANCE, f"the loss is {delta} from its reference"


def probe_is_the_recorded_one(run: Run, path: Path) -> None:
    """The reference compared with is the file's, and the difference is one of the two losses."""
    with open_apr(path, "structure") as file:
        recorded = file.metadata[OWN_KEY]["reference"]["loss"]
    facts = run.gate("reference.loss")["facts"]
    assert facts["reference_loss"] == recorded, "the reference is not the file's"
    assert abs(facts["loss"] - recorded) <= REFERENCE_TOLERANCE, f"the loss {facts['loss']} is not {recorded}"


def tiny_step0_signal(scene: Scene) -> None:
    """INIT-006 on a tiny model that has learned its corpus: gap, reference, and a worn copy that is refused."""
    run = require_success(scene.pretrain("--init", scene.learned))
    step0_signal(run.certificate["step0"], val_at_most=2.7, random_at_least=5.3, gap=3.0)
    probe_is_the_recorded_one(run, scene.learned)
    without = require_success(scene.pretrain("--arch", scene.arch))
    assert without.certificate["step0"]["val_loss"] >= 5.3, "a run without --init starts from learned weights"
    worn_copy_is_refused(scene)


def worn_copy_is_refused(scene: Scene) -> None:
    """A checkpoint far below every threshold is still refused when its loss is not the recorded one."""
    worn = scene.pretrain("--init", scene.worn, steps=1)
    assert worn.code == 1, f"a worn copy was taken: exit code {worn.code}"
    assert worn.error_id == StepZeroRefused.id
    assert "reference" in worn.stderr.strip().splitlines()[-1]
    assert worn.read("record.json")["outcome"] == "REFUSED"
    assert not (worn.run_dir / "ckpt").exists(), "a checkpoint was written of a worn copy"
    certificate = worn.read("certificate.json")
    loss = next(gate for gate in certificate["gates"] if gate["id"] == "loss.step0")
    assert loss["verdict"] == "yes", "the worn copy is caught by a threshold already: it shows nothing"


# INIT-009


def optimizer_is_fresh(scene: Scene) -> None:
    """INIT-009: with --init, also of a checkpoint that was trained, moments are zero and every counter is 0."""
    for init in (scene.learned, scene.trained_checkpoint):
        starts, order = [], []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pretrain, "certify", kept(pretrain.certify, starts))
            for name in ("load_decoder", "build_optimizer"):
                patch.setattr(certify, name, logged(getattr(certify, name), name, order))
            run = require_success(scene.pretrain("--init", init))
        optimizer = starts[0].optimizer
        tensors = [value for state in optimizer.state.values() for value in state.values()]
        assert not any(torch.as_tensor(value).any() for value in tensors), (
            "a moment or a step counter is not zero"
        )
        assert order == ["load_decoder", "build_optimizer"], f"the order was {order}"
        state = load_file(run.run_dir / "state" / "optimizer.safetensors")
        assert not any(value.any() for value in state.values()), "the state on disk is not zero"
        progress = run.read("state/progress.json")
        counters = {name: progress[name] for name in ("step", "epoch", "cursor", "tokens_seen")}
        assert not any(counters.values()), f"the counters are {counters}"
        first_updates_count_from_zero(scene, init)


def first_updates_count_from_zero(scene: Scene, init: Path) -> None:
    """Exactly as many updates as asked, the first at step 1 and at the schedule's first rate."""
    run = require_success(scene.pretrain("--init", init, "--lr", "1e-3", "--warmup-steps", 10, steps=3))
    steps = [line["step"] for line in run.metrics]
    assert steps == [1, 2, 3], f"the updates are numbered {steps}"
    rates = [line["lr"] for line in run.metrics]
    assert rates == pytest.approx([1e-4, 2e-4, 3e-4], rel=1e-9), f"the schedule runs {rates}"
    assert [line["tokens_seen"] for line in run.metrics] == [128, 256, 384], (
        "tokens are not counted from zero"
    )


def kept(function: Callable[..., Any], results: list[Any]) -> Callable[..., Any]:
    def call_and_keep(*arguments: Any, **options: Any) -> Any:
        results.append(function(*arguments, **options))
        return results[-1]

    return call_and_keep


def logged(function: Callable[..., Any], name: str, order: list[str]) -> Callable[..., Any]:
    def call_and_log(*arguments: Any, **options: Any) -> Any:
        order.append(name)
        return function(*arguments, **options)

    return call_and_log


# INIT-010


def init_checkpoints_are_reproducible(scene: Scene) -> None:
    """INIT-010: two `--num-steps 0 --seed 42` runs in two folders write the same bytes, with and without --init."""
    for start in (("--init", scene.learned), ("--arch", scene.arch)):
        runs = [require_success(scene.pretrain(*start, "--seed", 42)) for _ in range(2)]
        require_equal_checkpoints(*runs)


def require_equal_checkpoints(first: Run, second: Run) -> None:
    left, right = (run.run_dir / "ckpt" / "epoch-000.apr" for run in (first, second))
    assert left != right, "one run was compared with itself"
    assert left.stat().st_size == right.stat().st_size, "the checkpoints differ in size"
    with left.open("rb") as a, right.open("rb") as b:
        at = 0
        while block := a.read(1 << 24):
            assert block == b.read(1 << 24), f"the checkpoints differ behind byte {at:,}"
            at += len(block)


# The bounded proofs

FAILURES = ("missing file", "wrong magic", "architecture mismatch", "tensor mismatch")


def failing_init(scene: Scene, failure: str) -> tuple[Path, str]:
    """A file that fails to load, of each class, and what a refusal must name."""
    if failure == "missing file":
        return scene.new("absent.apr"), "absent.apr"
    if failure == "wrong magic":
        return scene.write_bytes(with_magic(scene.model.read_bytes(), b"XYZ\0")), "58 59 5a 00"
    if failure == "architecture mismatch":
        return lying_model(
            scene, intermediate_size=128
        ), "intermediate_size is 128 there and 256 in the tensors"
    weights = make_weights(CONFIG)
    weights["model.layers.1.self_attn.o_proj.weight"] = weights["model.layers.1.self_attn.o_proj.weight"][
        :, :32
    ].copy()
    path = make_model(scene.new("narrow.apr"), tokenizer=scene.tokenizer, oracle="none", weights=weights)
    return path, "model.layers.1.self_attn.o_proj.weight is [64, 32], not [64, 64]"


def load_failure_exits_non_zero(scene: Scene, failure: str, mode: str) -> None:
    """A failure to load ends the command with a refusal that names it, before step 1, without a fallback."""
    path, says = failing_init(scene, failure)
    with watch_allocations() as allocated:
        run = scene.pretrain("--init", path, "--arch", scene.arch, "--mode", mode, steps=1)
    assert run.code in (1, 2), f"exit code {run.code}"
    assert says in run.stderr.strip().splitlines()[-1], f"the refusal does not name it: {run.stderr[-300:]}"
    assert not allocated, "a model was allocated for a checkpoint that does not load"
    assert not run.run_dir.exists(), "a refused run left something"


def init_decides_the_start_and_nothing_else(scene: Scene, mode: str, present: bool) -> None:
    """Absent: the golden run, and no reader of checkpoints is called. Present: the same plan, from the file."""
    opened: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apr.train.inputs.open_apr", kept(open_apr, opened))
        if not present:
            absence_keeps_golden_losses(scene, mode)
            assert not opened, "a run without --init opened a checkpoint"
            return
        run = require_success(scene.pretrain("--init", scene.learned, "--mode", mode))
    assert [file.path for file in opened] == [scene.learned], f"{len(opened)} checkpoints were opened"
    without = require_success(scene.pretrain("--arch", scene.arch, "--mode", mode))
    ours, theirs = (plan_values(each) for each in (run, without))
    assert (ours.pop("from_init"), theirs.pop("from_init")) == (True, False)
    assert ours == theirs, "--init changes another value of the plan"
    step0 = run.certificate["step0"]["val_loss"]
    assert step0 < 2.7 < 5.3 < without.certificate["step0"]["val_loss"], f"the run starts at {step0}"


def plan_values(run: Run) -> dict[str, Any]:
    return {name: item["value"] for name, item in run.read("plan.json")["values"].items()}
