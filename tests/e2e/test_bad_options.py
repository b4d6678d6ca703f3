"""Options out of range, of the wrong kind, or named for a later release are refused before anything is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from command import run_apr
from e2e.refusal import check_outcome, refused, train

RANGES: dict[str, tuple[object, ...]] = {
    "--num-steps": (-1,),
    "--warmup-steps": (-1,),
    "--seed": (-1, 2**63),
    "--batch-size": (0, -3),
    "--seq-length": (0,),
    "--grad-accum": (0,),
    "--steps-per-epoch": (0,),
    "--val-tokens": (0,),
    "--lr": (0.0, -1.0, "nan", "inf"),
    "--target-val-loss": (0.0, "nan"),
    "--weight-decay": (-0.1, "inf"),
    "--grad-clip": (-1.0, "nan"),
    "--spike-threshold": (0.0, "nan"),
    "--spike-window": (3,),
    "--betas": ("0.9,1.0", "-0.1,0.9", "nan,0.9", "0.9", "0.9,0.95,0.99"),
}


@pytest.mark.parametrize(("option", "value"), [(name, value) for name in RANGES for value in RANGES[name]])
def test_out_of_range(tmp_path: Path, tiny_apr: Path, tiny_shards: Path, option: str, value: object) -> None:
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", f"{option}={value}")
    says = {"option": option, "value": spelled(value)}
    refused(*arguments, error_id="APR001", says=says, folder=tmp_path)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--spike", "skip"),
        ("--spike", "skip:0"),
        ("--log", "nothing"),
        ("--log", "tensorboard,none"),
        ("--keep", "last"),
    ],
)
def test_no_word_of_the_option(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, option: str, value: str
) -> None:
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", option, value)
    refused(*arguments, error_id="APR001", says={"option": option, "value": value}, folder=tmp_path)


def spelled(value: object) -> str:
    """A value as it was understood."""
    numbers = [float(part) for part in str(value).split(",")]
    return str(tuple(numbers)) if len(numbers) == 2 else str(value)


@pytest.mark.parametrize(
    "more",
    [
        ("--num-steps", "many"),
        ("--num-steps", "1.5"),
        ("--lr", "fast"),
        ("--mode", "fine"),
        ("--schedule", "linear"),
        ("--dtype", "fp64"),
        ("--no-such-option",),
        ("an-argument",),
    ],
)
def test_not_of_the_options_kind(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, more: tuple[str, ...]
) -> None:
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", *more)
    refused(*arguments, error_id="APR005", says={"what": more[-1]}, folder=tmp_path)


@pytest.mark.parametrize("device", ["bogus", "gpu", "cuda:16", "cuda:-1", "CPU", "cpu\n", "", "cuda:"])
@pytest.mark.parametrize("command", ["pretrain", "eval"])
def test_a_device_that_is_no_word(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, device: str, command: str
) -> None:
    started = train(
        tmp_path / "no.apr", tiny_shards, tmp_path / "run"
    )  # the device is judged before the file
    arguments = started if command == "pretrain" else ("eval", tmp_path / "no.apr", "--dataset", tiny_shards)
    refused(*arguments, "--device", device, error_id="APR601", says={"device": device}, folder=tmp_path)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:15"])
@pytest.mark.parametrize("command", ["pretrain", "dry run", "eval"])
def test_cuda_without_cuda(
    tmp_path: Path,
    tiny_apr: Path,
    tiny_shards: Path,
    device: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    started = train(tiny_apr, tiny_shards, tmp_path / "run")
    arguments = {
        "pretrain": started,
        "dry run": (*started, "--dry-run"),
        "eval": ("eval", tiny_apr, "--dataset", tiny_shards),
    }[command]
    refused(*arguments, "--device", device, error_id="APR602", says={"device": device}, folder=tmp_path)


def test_cuda_without_cuda_in_a_real_process(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    """No driver's word is taken for it: the devices are hidden from the process."""
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", "--device", "cuda", "--format", "json")
    check_outcome(run_apr(*arguments, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}), "APR602")
    assert not list(tmp_path.iterdir())


def test_a_window_longer_than_the_model(tmp_path: Path, tiny_apr: Path, tiny_shards: Path) -> None:
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", "--seq-length", 513)
    says = {"seq_length": 513, "limit": 512}
    refused(*arguments, error_id="APR626", says=says, folder=tmp_path)


ARCHITECTURES = {
    "a preset that contradicts the file": ("qwen2-0.5b", "APR307"),
    "no preset": ("no-such-preset", "APR306"),
    "a folder": (".", "APR306"),
}


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_an_architecture_that_is_not_the_files(
    tmp_path: Path, tiny_apr: Path, tiny_shards: Path, case: str
) -> None:
    name, error_id = ARCHITECTURES[case]
    arguments = train(tiny_apr, tiny_shards, tmp_path / "run", "--arch", name)
    refused(*arguments, error_id=error_id, says={"name": name}, folder=tmp_path)


ARCH_FILES = {"empty": ("", "APR105"), "a list": ("[]", "APR105"), "no field": ("{}", "APR301")}


@pytest.mark.parametrize("case", ARCH_FILES)
def test_an_architecture_file_that_says_nothing(tmp_path: Path, tiny_shards: Path, case: str) -> None:
    content, error_id = ARCH_FILES[case]
    (tmp_path / "arch.json").write_text(content)
    arguments = train("", tiny_shards, tmp_path / "run", "--arch", tmp_path / "arch.json")[3:]
    refused("pretrain", *arguments, error_id=error_id, folder=tmp_path)


REQUIRED = {
    "no dataset": ("pretrain", "--run-dir", "run"),
    "no run directory": ("pretrain", "--dataset", "shards"),
    "no output": ("import", "model.gguf"),
    "no file": ("inspect",),
    "no prompt": ("run", "model.apr"),
    "no corpus": ("tokenize", "encode-corpus", "--tokenizer", "t.json", "-o", "out"),
    "no such command": ("pretain",),
    "no such subcommand": ("tokenize", "encode"),
}


@pytest.mark.parametrize("case", REQUIRED)
def test_a_command_line_that_does_not_parse(tmp_path: Path, case: str) -> None:
    refused(*REQUIRED[case], error_id="APR005", folder=tmp_path)


OTHERS: dict[str, tuple[tuple[object, ...], str]] = {
    "run: no new token": (("run", "MODEL", "the", "-n", 0), "-n"),
    "run: a temperature below zero": (("run", "MODEL", "the", "--temperature", -1), "--temperature"),
    "run: no temperature": (("run", "MODEL", "the", "--temperature", "nan"), "--temperature"),
    "run: an empty prompt": (("run", "MODEL", ""), "prompt"),
    "eval: neither data nor text": (("eval", "MODEL"), "--dataset"),
    "eval: both": (("eval", "MODEL", "--dataset", "x", "--text", "y"), "--dataset"),
    "eval: no token": (("eval", "MODEL", "--dataset", "SHARDS", "--max-tokens", 0), "--max-tokens"),
    "eval: a window too long": (("eval", "MODEL", "--dataset", "SHARDS", "--seq-length", 513), "--seq-length"),
    "eval: no window": (("eval", "MODEL", "--dataset", "SHARDS", "--seq-length", 0), "--seq-length"),
    "demo: no step": (("demo", "-o", "OUT", "--num-steps", 0), "--num-steps"),
    "encode: a share of one": (("tokenize", "encode-corpus", "--corpus", "TEXT", "--tokenizer", "MODEL",
                                "-o", "OUT", "--val-fraction", 1), "--val-fraction"),
    "encode: no share": (("tokenize", "encode-corpus", "--corpus", "TEXT", "--tokenizer", "MODEL",
                          "-o", "OUT", "--val-fraction", "nan"), "--val-fraction"),
    "encode: no token a shard": (("tokenize", "encode-corpus", "--corpus", "TEXT", "--tokenizer", "MODEL",
                                  "-o", "OUT", "--shard-tokens", 0), "--shard-tokens"),
    "encode: an absolute pattern": (("tokenize", "encode-corpus", "--corpus", "FOLDER", "--tokenizer", "MODEL",
                                     "-o", "OUT", "--glob", "/etc/*"), "--glob"),
    "encode: into its own corpus": (("tokenize", "encode-corpus", "--corpus", "FOLDER", "--tokenizer", "MODEL",
                                     "-o", "FOLDER"), "--output"),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_other_commands(tmp_path: Path, tiny_apr: Path, tiny_shards: Path, case: str) -> None:
    arguments, option = OTHERS[case]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("the river\n")
    names = {
        "MODEL": tiny_apr,
        "SHARDS": tiny_shards,
        "OUT": tmp_path / "out",
        "TEXT": tmp_path / "text" / "a.txt",
        "FOLDER": tmp_path / "text",
    }
    spelled = [names.get(str(argument), argument) for argument in arguments]
    refused(*spelled, error_id="APR001", says={"option": option}, folder=tmp_path)


def test_an_error_id_that_is_none(tmp_path: Path) -> None:
    refused("explain", "APR990", error_id="APR006", says={"error_id": "APR990"}, folder=tmp_path)


def test_a_prompt_longer_than_the_model(tmp_path: Path, tiny_apr: Path) -> None:
    refused("run", tiny_apr, "the", "-n", 512, error_id="APR324", says={"limit": 512}, folder=tmp_path)
