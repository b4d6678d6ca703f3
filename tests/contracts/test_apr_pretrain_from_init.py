"""FALSIFY-APR-PRETRAIN-INIT-001 to -006, -009, -010; contracts/apr-pretrain-from-init-v1.yaml has their defects."""

from __future__ import annotations

import pytest

from command import run_apr
from contracts.claims.option import MODES, absence_keeps_golden_losses, option_parses
from contracts.claims.refusals import (
    bad_architecture_is_refused,
    missing_file_is_refused,
    wrong_magic_is_refused,
)
from contracts.claims.start import (
    init_checkpoints_are_reproducible,
    optimizer_is_fresh,
    require_equal_checkpoints,
    step0_signal,
    tiny_step0_signal,
)
from contracts.real_runs import RealRuns, real_step0_signal
from contracts.scene import Scene

pytestmark = pytest.mark.claim


def test_falsify_apr_pretrain_init_001_option_parses_absent_and_present(scene: Scene) -> None:
    option_parses(scene)


@pytest.mark.parametrize("mode", MODES)
def test_falsify_apr_pretrain_init_002_absence_keeps_the_golden_losses(scene: Scene, mode: str) -> None:
    absence_keeps_golden_losses(scene, mode)


def test_falsify_apr_pretrain_init_003_missing_file_is_refused(scene: Scene) -> None:
    missing_file_is_refused(scene)


def test_falsify_apr_pretrain_init_003_missing_file_is_refused_by_the_real_process(scene: Scene) -> None:
    missing, run_dir = scene.new("absent.apr"), scene.new("run")
    done = run_apr("pretrain", "--init", missing, "--dataset", scene.shards, "--run-dir", run_dir)
    assert (done.code, done.stdout) == (2, "")
    assert "APR101" in done.stderr
    assert str(missing) in done.stderr
    assert "Traceback" not in done.stderr
    assert not run_dir.exists()


def test_falsify_apr_pretrain_init_004_wrong_magic_empty_and_short_files_are_refused(scene: Scene) -> None:
    wrong_magic_is_refused(scene)


def test_falsify_apr_pretrain_init_005_bad_architecture_is_refused_with_both_values(scene: Scene) -> None:
    bad_architecture_is_refused(scene)


def test_falsify_apr_pretrain_init_006_step0_signal_of_the_tiny_model(scene: Scene) -> None:
    tiny_step0_signal(scene)


@pytest.mark.parametrize(
    ("figure", "value", "says"),
    [
        ("val_loss", 6.01, "with the checkpoint"),
        ("val_loss", float("nan"), "with the checkpoint"),
        ("random_init_loss", 9.49, "without it"),
        ("val_loss", 5.99, "the gap is"),  # of 8.9 against 5.99, both inside their limits
        ("reference_delta", 0.00101, "from its reference"),
        ("reference_delta", None, "no reference"),
    ],
)
def test_falsify_apr_pretrain_init_006_figures_beyond_a_limit_refute(
    figure: str, value: float | None, says: str
) -> None:
    limits = {"val_at_most": 6.0, "random_at_least": 9.5 if says != "the gap is" else 8.9, "gap": 3.0}
    figures = {"val_loss": 5.9, "random_init_loss": limits["random_at_least"], "reference_delta": 0.001}
    step0_signal(figures | {"val_loss": 5.5}, **limits)
    with pytest.raises(AssertionError, match=says):
        step0_signal(figures | {figure: value}, **limits)


@pytest.mark.live
def test_falsify_apr_pretrain_init_006_step0_signal_of_qwen(qwen_runs: RealRuns) -> None:
    real_step0_signal(qwen_runs.first, 2048)


def test_falsify_apr_pretrain_init_009_optimizer_and_counters_are_fresh(scene: Scene) -> None:
    optimizer_is_fresh(scene)


def test_falsify_apr_pretrain_init_010_init_checkpoints_are_byte_identical(scene: Scene) -> None:
    init_checkpoints_are_reproducible(scene)


@pytest.mark.live
def test_falsify_apr_pretrain_init_010_qwen_checkpoints_are_byte_identical(qwen_runs: RealRuns) -> None:
    require_equal_checkpoints(qwen_runs.first, qwen_runs.second)
    qwen_runs.drop_checkpoints()
