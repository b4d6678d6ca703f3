"""The scene of the falsifiers, and the runs on real checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from contracts.real_runs import RealRuns, one_at_a_time, source_shards
from contracts.scene import Scene

if TYPE_CHECKING:  # they import transformers, which most claims, each a process of its own, need not wait for
    from contracts.claims.encoders import Encoders
    from contracts.claims.vocabularies import Vocabularies


@pytest.fixture(autouse=True, scope="module")
def in_one_thread(one_thread: None) -> None:
    """All falsifiers: their models are tiny."""


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Files that are made once, in one thread as everything that reads them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    made = Scene(tmp_path_factory.mktemp("scene"))
    torch.set_num_threads(before)
    return made


@pytest.fixture(scope="session")
def encoders(scene: Scene) -> Encoders:
    from contracts.claims.encoders import make_encoders

    return make_encoders(scene)


@pytest.fixture(scope="session")
def vocabularies(scene: Scene) -> Vocabularies:
    from contracts.claims.vocabularies import make_vocabularies

    return make_vocabularies(scene)


def real_runs(init: Path, val_tokens: int, factory: pytest.TempPathFactory, worker_id: str) -> RealRuns:
    base = factory.getbasetemp() if worker_id == "master" else factory.getbasetemp().parent
    folder = base / f"runs-of-{init.stem}"
    with one_at_a_time(folder / "shards.lock"):
        shards = source_shards(init, folder)
    size = ("--batch-size", "2", "--seq-length", "512", "--val-tokens", str(val_tokens))
    return RealRuns(init, shards, folder, size)


@pytest.fixture(scope="session")
def smollm2_runs(smollm2_apr: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> RealRuns:
    return real_runs(smollm2_apr, 1024, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def qwen_runs(qwen_apr: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> RealRuns:
    return real_runs(qwen_apr, 2048, tmp_path_factory, worker_id)
