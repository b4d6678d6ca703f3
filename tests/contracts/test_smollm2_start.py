"""FALSIFY-APR-PRETRAIN-INIT-006 and -010 on SmolLM2, which is a quarter of the checkpoint that the contract names.

No claim of contracts/ is of them, because a claim that is not live must not need a model; so pytest runs them.
"""

from __future__ import annotations

import pytest

from contracts.claims.start import require_equal_checkpoints
from contracts.real_runs import RealRuns, real_step0_signal


@pytest.mark.smollm
def test_the_step0_signal_of_smollm2(smollm2_runs: RealRuns) -> None:
    real_step0_signal(smollm2_runs.first, 1024)


@pytest.mark.smollm
def test_its_checkpoints_are_byte_identical(smollm2_runs: RealRuns) -> None:
    second = smollm2_runs.second  # first of all: the other test process is at the first meanwhile
    require_equal_checkpoints(smollm2_runs.first, second)
    smollm2_runs.drop_checkpoints()
