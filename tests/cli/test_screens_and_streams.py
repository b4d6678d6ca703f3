"""Results on stdout, talk on stderr, figures as a reader wants them."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.cli.main import entry
from apr.cli.screen import Screen, clock, grade_sentence
from apr.stepzero.certificate import Certificate
from apr.stepzero.gate import GateResult
from apr.stepzero.gate import spelled as figure
from apr.train.reporter import StepFigures
from tiny import QUICK

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (1234567, "1,234,567"), (True, "True"), (0.000123456, "0.0001235"), ("ok", "ok"), (0, "0")],
)
def test_figures(value: object, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_durations(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def certificate(grade: object, verdict: str = "yes") -> Certificate:
    gate = GateResult(id="a.b", claim="it [holds]", verdict=verdict, figure=1.5, limit=2)
    return Certificate(grade=grade, gates=(gate,), step0={}, inputs={}, environment={})


@pytest.mark.parametrize("grade", ["A", "B", "C", None])
def test_every_grade_has_its_sentence(grade: object) -> None:
    said = grade_sentence(certificate(grade))
    assert said.startswith("certificate yes, ")
    assert said != grade_sentence(certificate("A" if grade != "A" else "B"))


@pytest.mark.parametrize("verdict", ["yes", "no", "not known"])
def test_plain_lines_off_a_terminal(verdict: str, capsys: pytest.CaptureFixture[str]) -> None:
    figures = StepFigures(
        step=2,
        num_steps=4,
        train_loss=1.5,
        grad_norm=1,
        lr=1e-4,
        tokens_per_sec=10,
        seconds_left=5,
        tokens_seen=8,
    )
    with Screen() as shown:
        shown.phase("loading", 1, 10)
        shown.phase("loading", 2, 10)
        shown.certificate(certificate("A", verdict))
        shown.step(figures)
        shown.validation(1, 2.25, None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("loading ...") == 1
    assert all(
        text in captured.err for text in ("a.b", verdict, "step 2/4", "loss 1.5000", "0:05 left", "2.2500")
    )


def test_a_runs_talk_is_not_its_result(
    tiny_apr: Path, tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "pretrain",
        "--init",
        tiny_apr,
        "--dataset",
        tiny_shards,
        "--run-dir",
        tmp_path / "run",
        *QUICK,
    ]
    assert entry([str(item) for item in arguments]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "BUDGET_DONE after 4 steps"
    assert lines[-2] == f"checkpoint {tmp_path / 'run' / 'ckpt' / 'epoch-002.apr'}"
    assert all(text in captured.err for text in ("step zero", "reference.loss", "step 4/4", "epoch 2"))


def test_a_continuation_follows_its_prompt(tiny_apr: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(["run", str(tiny_apr), "the river", "-n", "6"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("the river")
    assert text.endswith("\n")


def test_a_refused_continuation_says_nothing_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry(["run", str(tmp_path / "nowhere.apr"), "the river"]) == 2
    assert capsys.readouterr().out == ""
