"""`apr import`: a reference inside, by whom it was asked of, and met by the run that follows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import open_apr
from apr.arch.config import TransformerConfig
from apr.base.errors import ExtraMissing, OutputExists
from apr.model.adapters import tracer
from apr.model.load import load_decoder
from apr.stepzero import oracle as oracle_module
from apr.stepzero.reference import compare, measure, parse_reference
from apr.tokenizer.definition import load_definition
from apr.workflows.importing import import_model
from apr.workflows.inspecting import inspect_file, list_tensors
from apr.workflows.tokenizing import import_tokenizer
from tiny import CONFIG, QWEN_LIKE, make_hf_folder, make_tokenizer, make_weights

pytestmark = pytest.mark.usefixtures("one_thread")
UNTIED = replace(QWEN_LIKE, tie_word_embeddings=False)


@pytest.mark.parametrize(("oracle", "grade"), [("transformers", "A"), ("self", "B"), ("none", None)])
@pytest.mark.parametrize("config", [CONFIG, UNTIED], ids=["tied llama", "untied qwen2"])
def test_the_reference_is_in_the_file_and_is_met(
    tmp_path: Path, config: TransformerConfig, oracle: str, grade: str | None
) -> None:
    out = tmp_path / "m.apr"
    made = import_model(str(make_hf_folder(tmp_path / "hf", config)), out, oracle=oracle)
    assert (made["reference"] or {}).get("grade") == grade
    assert made["tied"] is config.tie_word_embeddings
    with open_apr(out) as file:
        facts, decoder = read_facts(file), load_decoder(file).decoder
    assert facts.config == config
    if grade is None:
        assert facts.reference is None
        return
    reference = parse_reference(facts.reference or {}, "x", config.vocab_size)
    gates = compare(reference, *measure(tracer(decoder), reference.probe_ids))
    assert [gate.verdict for gate in gates] == ["yes", "yes"]
    assert reference.loss == made["reference"]["loss"]


@pytest.mark.parametrize("oracle", ["transformers", "self"])
def test_a_probe_fits_a_short_model(tmp_path: Path, oracle: str) -> None:
    config = replace(CONFIG, max_position_embeddings=40)
    made = import_model(str(make_hf_folder(tmp_path / "hf", config)), tmp_path / "m.apr", oracle=oracle)
    assert made["reference"]["num_tokens"] == 39


def test_without_transformers_it_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing) as caught:
        import_model(str(tmp_path / "nowhere"), tmp_path / "m.apr")
    assert (caught.value.package, caught.value.extra) == ("transformers", "oracle")


def test_an_output_is_replaced_only_by_force(tmp_path: Path) -> None:
    folder, out = make_hf_folder(tmp_path / "hf"), tmp_path / "m.apr"
    first = import_model(str(folder), out, oracle="none")
    with pytest.raises(OutputExists):
        import_model(str(folder), out, oracle="none")
    again = import_model(str(folder), out, oracle="none", force=True)
    assert again["file_digest"] == first["file_digest"]  # the same source gives the same bytes


@pytest.mark.parametrize(("dtype", "size"), [("keep", 4), ("bf16", 2), ("f16", 2)])
def test_what_was_made_is_what_is_shown(tmp_path: Path, dtype: Any, size: int) -> None:
    out = tmp_path / "m.apr"
    made = import_model(str(make_hf_folder(tmp_path / "hf")), out, dtype=dtype, oracle="self")
    shown, rows = inspect_file(out), list_tensors(out)
    for key in ("file_digest", "parameter_count", "tensor_count", "tied", "architecture", "size_bytes"):
        assert shown[key] == made[key], key
    assert shown["reference"] == made["reference"]
    assert [item["sha256"] for item in shown["sources"]]
    matrix = next(row for row in rows["tensors"] if row["name"].endswith("up_proj.weight"))
    assert matrix["size_bytes"] == size * 256 * 64
    assert matrix["shape"] == [256, 64]
    assert sum(value.size for value in make_weights(CONFIG).values()) == shown["parameter_count"]


def test_a_tokenizer_is_taken_over_whole(tmp_path: Path, tiny_apr: Path) -> None:
    for number, source in enumerate((tiny_apr, make_hf_folder(tmp_path / "hf"))):
        found = import_tokenizer(source, tmp_path / str(number))
        assert found["sha256"] == make_tokenizer().sha256
        assert load_definition(tmp_path / str(number)) == make_tokenizer()
    with pytest.raises(OutputExists):
        import_tokenizer(tiny_apr, tmp_path / "0")
