"""What `apr plan` shows: the values, with --why where they came from, and every term of the memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.cli.main import entry
from apr.cli.plan_command import _TERMS
from apr.train.memory import MemoryTerms
from tiny import QUICK

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def arguments(tiny_apr: Path, tiny_shards: Path) -> list[str]:
    return ["plan", "--init", str(tiny_apr), "--dataset", str(tiny_shards), *QUICK]


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    return {words[0]: words for line in capsys.readouterr().out.splitlines() if (words := line.split())}


def test_sources_are_shown_when_asked_for(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text("[run]\nseed = 7\n")
    assert entry([*arguments, "--config", "run.toml", "--set", "optimizer.lr=1e-4", "--why"]) == 0
    shown = lines(capsys)
    assert shown["seed"] == ["seed", "7", "run.toml:2", "run.seed"]
    assert shown["lr"] == ["lr", "0.0001", "--set", "optimizer.lr"]
    assert shown["batch_size"] == ["batch_size", "2", "--batch-size"]
    assert shown["grad_accum"] == ["grad_accum", "1", "default"]
    assert shown["run_dir"] == ["run_dir", "run", "default"]
    assert entry([*arguments, "--config", "run.toml"]) == 0
    assert lines(capsys)["seed"] == ["seed", "7"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.toml"]


def test_every_term_of_the_memory_has_its_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sums = {"at", "live", "required", "peak"}
    assert set(_TERMS) == set(MemoryTerms.__slots__) - sums
    assert entry(arguments) == 0
    shown = lines(capsys)
    assert {"memory", "weights", "moments", "mapped", "disk", "tokens", "time"} <= set(shown)
    assert shown["tokens"][1:4] == ["256", "in", "4"]
