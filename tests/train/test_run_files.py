"""Run files and --set: every setting reaches the run, with its place; what is no setting is refused."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.base.errors import BadOption, FileMissing
from apr.train.plan import RunPlan, resolve
from apr.train.run_file import asked_values, read_assignment, read_run_file
from apr.train.setting_errors import RunFileMalformed, SettingOfWrongKind, SettingUnknown
from apr.train.settings import SETTINGS, nearest_setting
from apr.train.spec import RunSpec

NOTHING = {setting.field: None for setting in SETTINGS.values()} | {
    "synthetic": False,
    "allow_shard_cycle": False,
    "document_mask": False,
}
# As written in TOML, and as the run must take it; the file lies in the folder `box`.
WRITTEN: dict[str, tuple[str, Any]] = {
    "model.init": ('"m.apr"', Path("box/m.apr")),
    "model.arch": ('"llama-370m"', "llama-370m"),
    "model.tokenizer": ('"/abs/t"', Path("/abs/t")),
    "model.freeze": ('["model.norm.*", "lm_head.weight"]', ("model.norm.*", "lm_head.weight")),
    "model.lora": ('"r=4"', "r=4"),
    "data.dataset": ('"../shards"', Path("box/../shards")),
    "data.val_shard": ('"v"', Path("box/v")),
    "data.val_tokens": ("99", 99),
    "data.batch_size": ("3", 3),
    "data.seq_length": ("64", 64),
    "data.grad_accum": ("2", 2),
    "data.allow_shard_cycle": ("true", True),
    "data.document_mask": ("true", True),
    "optimizer.lr": ("1e-3", 1e-3),
    "optimizer.warmup_steps": ("0", 0),
    "optimizer.schedule": ('"constant"', "constant"),
    "optimizer.weight_decay": ("0", 0.0),
    "optimizer.betas": ("[0.8, 0.99]", (0.8, 0.99)),
    "optimizer.grad_clip": ("0.5", 0.5),
    "optimizer.spike": ('"skip:3"', "skip:3"),
    "optimizer.spike_threshold": ("7", 7.0),
    "optimizer.spike_window": ("64", 64),
    "run.run_dir": ('"r"', Path("box/r")),
    "run.mode": ('"from-scratch"', "from-scratch"),
    "run.num_steps": ("7", 7),
    "run.steps_per_epoch": ("5", 5),
    "run.target_val_loss": ("1", 1.0),
    "run.seed": ("7", 7),
    "run.keep": ('"last:2,best"', "last:2,best"),
    "run.save": ('"blocking"', "blocking"),
    "run.log": ('["tensorboard", "wandb"]', ("tensorboard", "wandb")),
    "run.device": ('"cpu"', "cpu"),
    "run.dtype": ('"fp32"', "fp32"),
    "run.synthetic": ("true", True),
}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("box").mkdir()
    return Path("box")


def write(box: Path, text: str) -> Path:
    path = box / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def plan_of(config: Path | None, *assignments: str, **options: Any) -> RunPlan:
    values = asked_values(config, assignments, {**NOTHING, "dataset": Path("d"), **options})
    return resolve(RunSpec(**{**values, "run_dir": Path("r")}))


def test_every_field_of_a_run_can_be_set() -> None:
    names = {field.name for field in fields(RunSpec)} - {"places", "resume"}
    assert {setting.field for setting in SETTINGS.values()} == names
    assert set(WRITTEN) == set(SETTINGS)


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_of_the_file_is_taken_with_its_line(key: str, box: Path) -> None:
    section, _, name = key.partition(".")
    text, value = WRITTEN[key]
    path = write(box, f"# a run\n[{section}]\n\n{name} = {text} # why\n")
    (asked,) = read_run_file(path)
    assert (asked.field, asked.value, asked.source) == (name, value, f"box/run.toml:4 {key}")
    assert type(asked.value) is type(value)


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_of_the_command_line_is_taken(key: str) -> None:
    text, value = WRITTEN[key]
    asked = read_assignment(f"{key} = {text}")
    there = Path(str(value).removeprefix("box/")) if isinstance(value, Path) else value
    assert (asked.field, asked.value, asked.source) == (SETTINGS[key].field, there, f"--set {key}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("run.mode=from-scratch", "from-scratch"),
        ("model.init=a b=c.apr", Path("a b=c.apr")),
        ("optimizer.betas=0.8,0.9", (0.8, 0.9)),
        ("optimizer.lr=inf", math.inf),  # a number; its range is the plan's business
        ("run.device='cuda:0'", "cuda:0"),
    ],
)
def test_words_and_pairs_need_no_quotes_on_the_command_line(text: str, value: Any) -> None:
    assert read_assignment(text).value == value


def test_option_wins_over_set_over_file_over_mode_over_default(box: Path) -> None:
    path = write(box, "[optimizer]\nlr = 1e-3\nwarmup_steps = 9\nweight_decay = 0.5\n[run]\nseed = 3\n")
    plan = plan_of(path, "optimizer.lr=2e-3", "optimizer.warmup_steps=8", "optimizer.warmup_steps=7", lr=3e-3)
    found = {name: (getattr(plan, name), plan.sources[name]) for name in plan.sources}
    assert found["lr"] == (3e-3, "--lr")
    assert found["warmup_steps"] == (7, "--set optimizer.warmup_steps")
    assert found["weight_decay"] == (0.5, "box/run.toml:4 optimizer.weight_decay")
    assert found["seed"] == (3, "box/run.toml:6 run.seed")
    assert found["target_val_loss"] == (2.2, "--mode finetune")
    assert found["batch_size"] == (16, "default")


@pytest.mark.parametrize(("option", "value"), [("num_steps", 0), ("warmup_steps", 0), ("grad_clip", 0.0)])
def test_an_option_of_zero_is_an_option(option: str, value: float, box: Path) -> None:
    path = write(box, "[run]\nnum_steps = 5\n[optimizer]\nwarmup_steps = 5\ngrad_clip = 5\n")
    plan = plan_of(path, **{option: value})
    assert (getattr(plan, option), plan.sources[option]) == (value, f"--{option.replace('_', '-')}")


def test_what_a_mode_sets_stands_where_the_mode_stands(box: Path) -> None:
    plan = plan_of(write(box, '[run]\nmode = "from-scratch"\n'))
    assert (plan.lr, plan.sources["lr"]) == (3e-4, "box/run.toml:2 run.mode from-scratch")
    assert plan_of(None, "run.mode=from-scratch", mode="finetune").lr == 5e-5


def test_a_switch_of_the_file_can_be_put_back(box: Path) -> None:
    path = write(box, "[data]\nallow_shard_cycle = true\n")
    assert plan_of(path).allow_shard_cycle
    plan = plan_of(path, "data.allow_shard_cycle=false")
    assert not plan.allow_shard_cycle
    assert plan.sources["allow_shard_cycle"] == "--set data.allow_shard_cycle"


def test_where_a_value_stands_does_not_change_the_digest(box: Path) -> None:
    by_file = plan_of(write(box, "[run]\nseed = 7\n"))
    assert by_file.digest == plan_of(None, seed=7).digest


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ('model = { init = "a", arch = "tiny" }', "model.init", None),  # of an inline table no line is told
        ("run.seed = 1\n", "run.seed", 1),
        ('[model]\ninit = """\narch = 3\n"""\narch = "tiny"\n', "model.arch", None),
        ('"run"."seed" = 1\n', "run.seed", None),
    ],
)
def test_a_line_is_told_only_where_it_is_known(text: str, key: str, line: int | None, box: Path) -> None:
    asked = {item.field: item.source for item in read_run_file(write(box, text))}
    place = "box/run.toml" if line is None else f"box/run.toml:{line}"
    assert asked[SETTINGS[key].field] == f"{place} {key}"


@pytest.mark.parametrize(
    ("text", "place", "key", "nearest"),
    [
        ("[optimizer]\nlearning_rate = 1\n", "box/run.toml:2", "optimizer.learning_rate", None),
        ("[optimiser]\nlr = 1\n", "box/run.toml:2", "optimiser.lr", "optimizer.lr"),
        ("[run]\nlr = 1\n", "box/run.toml:2", "run.lr", "optimizer.lr"),
        ("lr = 1\n", "box/run.toml:1", "lr", "optimizer.lr"),
        ("[data]\nbatch-size = 1\n", "box/run.toml:2", "data.batch-size", "data.batch_size"),
        ("[data]\nbatchsize = 1\n", "box/run.toml:2", "data.batchsize", "data.batch_size"),
        ("[model]\n[model.init]\nx = 1\n", "box/run.toml", "model.init", None),
        ("[[run]]\nseed = 1\n", "box/run.toml", "run", None),
    ],
)
def test_what_is_no_setting_is_refused_with_the_nearest(
    text: str, place: str, key: str, nearest: str | None, box: Path
) -> None:
    with pytest.raises((SettingUnknown, SettingOfWrongKind)) as caught:
        list(read_run_file(write(box, text)))
    error = caught.value
    assert (error.place, error.key) == (place, key)
    if isinstance(error, SettingUnknown):
        assert error.nearest in SETTINGS
        assert nearest in (None, error.nearest)


@given(st.text())
def test_there_is_always_a_nearest_setting(key: str) -> None:
    assert nearest_setting(key) in SETTINGS


WRONG = {
    "a whole number": ("1.0", "1e3", "true", '"3"', "[]"),
    "a number": ("true", '"3"', "[1]", "2026-01-01"),
    "two numbers": ("[0.9]", "[0.9, 0.95, 0.99]", "0.9", "[true, 0.9]", '["a", "b"]'),
    "true or false": ("1", '"true"', "0.0"),
    "a word": ("1", "true", "[]"),
    "a name or glob": ("1", "true", '""', "[1]", '["a", 2]'),
    "a path": ("1", "true", '""', '"a\\u0000b"'),
    "a preset": ("1", "{}"),
    "words": ("1", "true", "[]", "[1]"),
}


@pytest.mark.parametrize("key", SETTINGS)
def test_a_value_of_another_kind_is_refused_where_it_stands(key: str, box: Path) -> None:
    section, _, name = key.partition(".")
    limit = SETTINGS[key].kind.says
    for text in next(wrong for kind, wrong in WRONG.items() if limit.startswith(kind)):
        with pytest.raises(SettingOfWrongKind) as caught:
            list(read_run_file(write(box, f"[{section}]\n{name} = {text}\n")))
        assert (caught.value.place, caught.value.key) == ("box/run.toml:2", key), text
        assert caught.value.limit == limit


@pytest.mark.parametrize(
    "text", ["data.batch_size=1.5", "data.batch_size=1\nx=2", "optimizer.betas=0.9,0.9,0.9"]
)
def test_a_value_of_set_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(SettingOfWrongKind) as caught:
        read_assignment(text)
    assert caught.value.place == "--set"


@pytest.mark.parametrize("text", ["", "run.seed", "=3", " = "])
def test_set_without_a_key_and_a_value_is_refused(text: str) -> None:
    with pytest.raises(BadOption) as caught:
        read_assignment(text)
    assert (caught.value.option, caught.value.value) == ("--set", text)


@pytest.mark.parametrize(
    "content",
    [b"lr", b"[run]\nseed = 1\nseed = 2\n", b"\xff\xfe", b"[run]\nseed = 01\n", b"a = " + b"[" * 5000],
)
def test_what_is_not_toml_is_refused(content: bytes, box: Path) -> None:
    path = box / "run.toml"
    path.write_bytes(content)
    with pytest.raises(RunFileMalformed) as caught:
        list(read_run_file(path))
    assert caught.value.path == "box/run.toml"


def test_a_run_file_that_is_not_there_is_refused(box: Path) -> None:
    for path in (box, box / "no.toml"):
        with pytest.raises(FileMissing):
            list(read_run_file(path))


def test_a_value_out_of_range_names_where_it_stands(box: Path) -> None:
    with pytest.raises(BadOption) as caught:
        plan_of(write(box, "[optimizer]\nlr = -1\n"))
    assert caught.value.option == "box/run.toml:2 optimizer.lr"


def test_the_arch_of_a_file_is_a_preset_or_beside_it(box: Path) -> None:
    (asked,) = read_run_file(write(box, '[model]\narch = "mine.json"\n'))
    assert asked.value == "box/mine.json"
