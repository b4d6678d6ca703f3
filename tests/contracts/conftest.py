"""The scene of the falsifiers, and one thread: the tiny models are slower on two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from contracts.scene import Scene


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep two test processes from waiting for each other's threads; this one's are given back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Files that are made once, and before any defect is planted."""
    torch.set_num_threads(1)
    made = Scene(tmp_path_factory.mktemp("scene"))
    _ = made.learned, made.worn
    return made
