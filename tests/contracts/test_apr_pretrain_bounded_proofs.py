"""The two bounded proofs of apr-pretrain-from-init-v1, over their whole domains, through the real command line."""

from __future__ import annotations

import pytest

from contracts.claims.bounded import (
    ABSENCE_DOMAIN,
    FAILURE_DOMAIN,
    init_decides_the_start_and_nothing_else,
    load_failure_exits_non_zero,
)
from contracts.claims.option import MODES
from contracts.controls.arch_controls import ARCH_CONTROLS
from contracts.controls.init_controls import (
    ABSENT_CONTROLS,
    INIT_CONTROLS,
    LOAD_FAILURE_CONTROLS,
    PARTIAL_LOAD_CONTROL,
    PRESENT_CONTROLS,
)
from contracts.controls.plant import ARCH, INIT, Control, must_fail
from contracts.scene import Scene


def test_the_domains_are_whole() -> None:
    assert (len(set(ABSENCE_DOMAIN)), len(set(FAILURE_DOMAIN))) == (4, 8)


@pytest.mark.parametrize(("mode", "start"), ABSENCE_DOMAIN)
def test_bounded_proof_absence_implies_the_old_behaviour(scene: Scene, mode: str, start: str) -> None:
    init_decides_the_start_and_nothing_else(scene, mode, start == "present")


@pytest.mark.parametrize(("mode", "start"), ABSENCE_DOMAIN)
def test_control_bounded_proof_absence(scene: Scene, mode: str, start: str) -> None:
    for control in PRESENT_CONTROLS if start == "present" else ABSENT_CONTROLS:
        must_fail(
            control,
            scene,
            lambda scene: init_decides_the_start_and_nothing_else(scene, mode, start == "present"),
        )


@pytest.mark.parametrize(("failure", "mode"), FAILURE_DOMAIN)
def test_bounded_proof_load_failure_implies_a_non_zero_exit(scene: Scene, failure: str, mode: str) -> None:
    load_failure_exits_non_zero(scene, failure, mode)


@pytest.mark.parametrize(
    "control", LOAD_FAILURE_CONTROLS, ids=lambda control: control.defect.replace(" ", "-")
)
@pytest.mark.parametrize(("failure", "mode"), FAILURE_DOMAIN)
def test_control_bounded_proof_load_failure(scene: Scene, failure: str, mode: str, control: Control) -> None:
    must_fail(control, scene, lambda scene: load_failure_exits_non_zero(scene, failure, mode))


@pytest.mark.parametrize("mode", MODES)
def test_control_bounded_proof_partial_load(scene: Scene, mode: str) -> None:
    must_fail(
        PARTIAL_LOAD_CONTROL, scene, lambda scene: load_failure_exits_non_zero(scene, "tensor mismatch", mode)
    )


def test_every_falsifier_has_a_control() -> None:
    init = [f"{INIT}{number:03d}" for number in (1, 2, 3, 4, 5, 6, 9, 10)]
    arch = [f"{ARCH}{number:03d}" for number in (1, 2, 3, 4, 5, 6, 7, 9, 10)]
    assert sorted(INIT_CONTROLS) == init
    assert sorted(ARCH_CONTROLS) == [*arch, ARCH + "CUDA-001"]
    controls = [
        control for table in (INIT_CONTROLS, ARCH_CONTROLS) for each in table.values() for control in each
    ]
    assert all(control.defect and control.sees for control in controls)
