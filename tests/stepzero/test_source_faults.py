from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import tiny
from apr.arch.config import RopeScaling
from apr.base.errors import AprError
from apr.stepzero.faults.source import SOURCE_FAULTS
from apr.stepzero.registry import gate_of_error
from apr.workflows.importing import import_model

SCALED = RopeScaling(rope_type="linear", factor=2.0)
CONFIGS = {
    "llama": tiny.CONFIG,
    "qwen2": tiny.QWEN_LIKE,
    "untied": replace(tiny.CONFIG, tie_word_embeddings=False, rope_scaling=SCALED),
}
# Both families are tied; what needs another kind of model is planted in the third.
CASES = [
    pytest.param(fault, name, id=f"{fault.id}-{name}")
    for fault in SOURCE_FAULTS
    for name, config in CONFIGS.items()
    if (fault.needs is None and name != "untied") or (fault.needs is not None and fault.needs(config))
]
TRUSTED = [case for case in CASES if case.values[0].gate == "source.trust"]
REFUSED = [case for case in CASES if case.values[0].gate != "source.trust"]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """The folders as they are published: nothing of ours in them."""
    top = tmp_path_factory.mktemp("healthy")
    for name, config in CONFIGS.items():
        folder = tiny.make_hf_folder(top / name, config)
        (folder / "tokenizer_apr.json").unlink()
        tokenizer = {"eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        lines = [f"{digest}  {file}\n" for file, digest in digests(folder).items()]
        (top / f"{name}.sha256").write_text("".join(lines))
    return top


@pytest.fixture
def plant(healthy, tmp_path):
    """Plant a fault in a copy that is made of links, as a copy of a large model may be."""

    def planted(fault, name: str) -> Path:
        before = digests(healthy / name)
        shutil.copytree(healthy / name, tmp_path / "spoilt", copy_function=os.link)
        fault.edit(tmp_path / "spoilt")
        assert digests(tmp_path / "spoilt") != before
        assert digests(healthy / name) == before
        return tmp_path / "spoilt"

    return planted


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def imported(folder: Path, out: Path, manifest: Path | None = None):
    return import_model(str(folder), out, oracle="self", manifest_path=manifest)


def test_the_healthy_folders_are_imported(healthy, tmp_path):
    for name in CONFIGS:
        made = imported(healthy / name, tmp_path / f"{name}.apr", healthy / f"{name}.sha256")
        assert made["findings"] == []


@pytest.mark.parametrize(("fault", "name"), REFUSED)
def test_a_folder_that_contradicts_itself_is_refused(fault, name, plant, tmp_path):
    folder = plant(fault, name)
    with pytest.raises(AprError) as caught:
        imported(folder, tmp_path / "out.apr")
    # Values of a config are judged by one function, wherever it was read.
    gate = gate_of_error(caught.value.id)
    assert {"file.config": "source.config"}.get(gate, gate) == fault.gate
    assert not (tmp_path / "out.apr").exists()


@pytest.mark.parametrize(("fault", "name"), TRUSTED)
def test_a_well_formed_folder_is_refused_by_its_digests_only(fault, name, plant, healthy, tmp_path):
    folder = plant(fault, name)
    assert imported(folder, tmp_path / "trusting.apr")["trust"]["root"] == "first use"
    with pytest.raises(AprError) as caught:
        imported(folder, tmp_path / "out.apr", healthy / f"{name}.sha256")
    assert gate_of_error(caught.value.id) == "source.trust"
    assert not (tmp_path / "out.apr").exists()


def test_every_fault_is_planted_somewhere():
    assert {case.values[0].id for case in CASES} == {fault.id for fault in SOURCE_FAULTS}
    assert len({fault.id for fault in SOURCE_FAULTS}) == len(SOURCE_FAULTS)


def test_every_fault_says_what_it_imitates():
    for fault in SOURCE_FAULTS:
        assert fault.imitates
        assert all(re.fullmatch(r"S-(\d\d|1[0-3]\d)", entry) for entry in fault.imitates)
        assert fault.says[0].islower()
        assert not fault.says.endswith(".")
