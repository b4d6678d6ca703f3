"""Every fault is refused by the gate that it is declared for, and no healthy run is refused."""

from __future__ import annotations

import multiprocessing
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apr.arch.counts import parameter_count
from apr.base.errors import BadOption, Interrupted
from apr.stepzero.faults.catalogue import FAULTS
from apr.stepzero.faults.fault import Fault, Patch
from apr.stepzero.registry import BY_ID
from apr.train.reporter import Silent
from apr.workflows import falsify_plant, falsify_pool
from apr.workflows.falsify_controls import CONTROLS, Control, run_control
from apr.workflows.falsify_plant import run_fault
from apr.workflows.falsify_scene import Scene
from apr.workflows.falsifying import falsify
from apr.workflows.small_models import SMALL_CONFIGS
from command import run_apr
from tiny import CONFIG, QWEN_LIKE, make_model

pytestmark = pytest.mark.usefixtures("one_thread")

PLACES = (
    *("source folder", "container", "config", "tokenizer", "shards", "loader", "forward", "optimizer"),
    *("schedule", "data order", "checkpoint", "subset"),
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path) -> dict[str, Scene]:
    """Tiny models: without and with biases, with a head of its own, with scaled rope; references by transformers."""
    made = {}
    configs = {
        "llama": CONFIG,
        "qwen2": QWEN_LIKE,
        "untied": replace(CONFIG, tie_word_embeddings=False),
        "scaled": replace(SMALL_CONFIGS["llama3-rope"], max_position_embeddings=1024),
    }
    for name, config in configs.items():
        folder = tmp_path_factory.mktemp(name)
        model = make_model(folder / "tiny.apr", config, oracle="transformers")
        made[name] = Scene(model=model, dataset=tiny_shards, folder=folder)
    return made


def test_the_catalogue_is_as_large_as_promised() -> None:
    assert len(FAULTS) >= 120
    assert sum(fault.quick for fault in FAULTS) >= 40
    assert len(CONTROLS) >= 30
    assert set(Counter(fault.place for fault in FAULTS)) == set(PLACES)
    assert max(Counter(fault.id for fault in FAULTS).values()) == 1
    assert max(Counter(control.id for control in CONTROLS).values()) == 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_is_declared_whole(fault: Fault) -> None:
    assert fault.gate in BY_ID
    assert fault.imitates
    assert all(name.startswith("S-") for name in fault.imitates)
    assert (fault.edit is None) != (not fault.patches)
    assert fault.says[:1].islower() or fault.says.startswith(("BF16", "Git", "GGUF"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_is_caught(scenes: dict[str, Scene], fault: Fault) -> None:
    able = [scene for scene in scenes.values() if fault.needs is None or fault.needs(scene.config)]
    assert able, "no model here can carry this fault"
    with warnings.catch_warnings(action="ignore"):
        outcome = run_fault(fault, able[0])
    assert outcome.planted
    assert outcome.gate is not None, outcome.message
    assert fault.gate in outcome.gates, outcome.message


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.id)
def test_a_healthy_run_is_not_refused(scenes: dict[str, Scene], control: Control) -> None:
    scene = scenes["llama"]
    if control.needs is not None and not control.needs(scene.config):
        # Refused rightly: a toy with random weights cannot be told from a table of counts without a reference.
        assert "loss.step0" in str(run_control(control, scene)["alarm"])
        return
    assert run_control(control, scene)["alarm"] is None


def nothing_wrong(original: Any) -> Any:
    return original


def test_what_nothing_refuses_is_missed(scenes: dict[str, Scene]) -> None:
    harmless = Patch(target="apr.train.certify:load_decoder", wrap=nothing_wrong)
    fault = Fault(
        id="x", imitates=("S-01",), place="loader", gate="weights.memory", says="nothing", patches=(harmless,)
    )
    outcome = run_fault(fault, scenes["llama"])
    assert (outcome.gate, outcome.planted, outcome.message) == (None, True, "")
    assert outcome.to_dict(fault)["caught_by"] is None


def test_a_defect_that_is_not_reached_counts_as_missed(scenes: dict[str, Scene]) -> None:
    unused = Patch(target="apr.workflows.falsifying:falsify", wrap=nothing_wrong)
    fault = Fault(
        id="x", imitates=("S-01",), place="loader", gate="weights.memory", says="nothing", patches=(unused,)
    )
    row = run_fault(fault, scenes["llama"]).to_dict(fault)
    assert row["caught_by"] is None
    assert "never reached" in row["message"]


def test_a_crash_is_no_refusal(scenes: dict[str, Scene]) -> None:
    def crashes(original: Any) -> Any:
        def load(*args: Any) -> Any:
            raise RuntimeError("a bug")

        return load

    patch = Patch(target="apr.train.certify:load_decoder", wrap=crashes)
    fault = Fault(
        id="x", imitates=("S-01",), place="loader", gate="weights.memory", says="nothing", patches=(patch,)
    )
    outcome = run_fault(fault, scenes["llama"])
    assert outcome.gate is None
    assert "RuntimeError" in outcome.message


def test_an_interruption_ends_the_command(scenes: dict[str, Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> Any:
        raise Interrupted(signal="Ctrl-C")

    monkeypatch.setattr(falsify_plant, "pretrain", interrupted)
    fault = next(fault for fault in FAULTS if fault.id == "loader.one-bit")
    with pytest.raises(Interrupted):
        run_fault(fault, scenes["llama"])


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_report_counts_what_was_planted(jobs: int, scenes: dict[str, Scene], tmp_path: Path) -> None:
    scene = scenes["llama"]
    before = scene.model.read_bytes()
    chosen = ("loader.one-bit", "shards.bit", "healthy.as-it-is")
    report = falsify(scene.model, Silent(), dataset=scene.dataset, only=chosen, work_dir=tmp_path, jobs=jobs)
    assert [row["id"] for row in report["faults"]] == ["shards.bit", "loader.one-bit"]
    assert (report["planted"], report["caught"], report["missed"], report["by_another_gate"]) == (
        2,
        2,
        [],
        [],
    )
    assert (report["healthy"], report["false_alarms"]) == (1, [])
    keys = {"id", "imitates", "place", "says", "expected_gate", "caught_by", "gates", "message", "seconds"}
    assert all(set(row) == keys for row in report["faults"])
    assert scene.model.read_bytes() == before
    assert not list(tmp_path.iterdir())


def test_there_are_as_many_processes_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    one_run = 28 * parameter_count(CONFIG) + (1 << 30)
    monkeypatch.setattr(falsify_pool, "cpu_count", lambda: 4)
    for available, expected in ((None, 1), (one_run // 2, 1), (2 * one_run + 1, 2), (99 * one_run, 4)):
        monkeypatch.setattr(falsify_pool, "available_memory_bytes", lambda available=available: available)
        assert falsify_pool.affordable_jobs(CONFIG) == expected


def test_a_process_that_the_system_ends_is_told(scenes: dict[str, Scene], tmp_path: Path) -> None:
    scene = scenes["llama"]
    only = next(control for control in CONTROLS if control.id == "healthy.as-it-is")
    rows = falsify_pool.rows_of([only], replace(scene, folder=tmp_path), 2)
    _, row = next(rows)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(falsify_pool.WorkerLost) as caught:
        row()
    assert caught.value.jobs == 2
    rows.close()


def test_an_unknown_id_is_refused(scenes: dict[str, Scene]) -> None:
    with pytest.raises(BadOption):
        falsify(scenes["llama"].model, Silent(), only=("no-such-fault",))


@pytest.mark.smollm
def test_the_quick_run_on_a_real_checkpoint(smollm2_apr: Path) -> None:
    report = run_apr("falsify", smollm2_apr, "--quick", "--format", "json", timeout=1800)
    assert report.code == 0, report.stderr[-2000:]
    found = report.json
    assert found["planted"] >= 40
    assert found["caught"] == found["planted"]
    assert found["false_alarms"] == found["by_another_gate"] == []
