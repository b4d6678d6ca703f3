"""Fixtures that several rooms share: real checkpoints from the cache, and a tiny model with a corpus."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
import torch

from apr.base.environment import cache_dir
from apr.convert.published import PUBLISHED, fetch_published
from command import run_apr
from tiny import make_model, make_shards

# Who starts the tests in the background has Ctrl-C ignored, in every process below too; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine under load is slow, which is no finding; and CI judges a change, so it must not meet new examples.
hypothesis.settings.register_profile("apr", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("apr")


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Let one test process at a time make what the others then find."""
    path = cache_dir() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def fetched(name: str) -> Path:
    # A missing checkpoint fails the test that needs it: a skip would hide that nothing was compared.
    with only_one(PUBLISHED[name].file_name):
        return fetch_published(name)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute in one thread: tiny tensors gain nothing from a second, and lose much where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    return fetched("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def qwen_gguf() -> Path:
    return fetched("qwen2.5-coder-0.5b-instruct")


@pytest.fixture(scope="session")
def smollm2_apr(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """SmolLM2 imported by the real command, once for all test processes."""
    return imported(smollm2_gguf, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def qwen_apr(qwen_gguf: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    return imported(qwen_gguf, tmp_path_factory, worker_id)


def imported(source: Path, factory: pytest.TempPathFactory, worker_id: str, *options: str) -> Path:
    folder = factory.getbasetemp() if worker_id == "master" else factory.getbasetemp().parent
    out = folder / ("-".join([source.stem, *(option.strip("-") for option in options)]) + ".apr")
    with only_one(f"import-{out.name}"):
        if not out.exists():
            done = run_apr("import", source, "-o", out, *options)
            assert done.code == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def tiny_apr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny valid model; copy it before changing a byte."""
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny.apr")


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards made with the tiny model's tokenizer; copy them before changing a byte."""
    return make_shards(tmp_path_factory.mktemp("tiny") / "shards")
