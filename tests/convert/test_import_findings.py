"""Matrices of zeros, of one number, or there twice: found while they are read, recorded, and not refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import open_apr
from apr.arch.inventory import EMBEDDING, HEAD
from apr.convert.errors import TensorNotFinite
from apr.convert.importer import import_checkpoint
from apr.convert.source import open_source

NORM = "model.norm.weight"
UP, GATE = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.gate_proj.weight"
UP1, DOWN = "model.layers.1.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
K, V = "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight"
BIAS = "model.layers.0.self_attn.k_proj.bias"


def read_all(config, values):
    """A reference that reads every tensor once, backwards, as any reference may."""
    for name in reversed(list(values)):
        values[name]
    return {"grade": "B"}


def read_some(config, values):
    values[UP]
    values[NORM]
    return {"grade": "B"}


READERS = {"no reference": None, "a reference": read_all, "a reference of some": read_some}


@pytest.fixture(params=READERS)
def found(request, tmp_path):
    """Import a source, by way of every reader; returns (rule, tensor) of each finding."""

    def run(source, **options):
        options = {"tokenizer": None, "record_reference": READERS[request.param]} | options
        made = import_checkpoint(open_source(str(source)), tmp_path / "m.apr", force=True, **options)
        return [(finding.rule, finding.tensor) for finding in made.findings]

    return run


def changed(kit, config=None, **values):
    """Random tensors of which some are replaced; names are spelled as the constants above."""
    tensors = kit.random_tensors(config or kit.LLAMA)
    for name, value in values.items():
        key = globals()[name]
        tensors[key] = np.broadcast_to(np.float32(value), tensors[key].shape).copy()
    return tensors


def test_a_healthy_model_has_none(make_folder, make_gguf, kit, found):
    assert found(make_folder(kit.QWEN)) == []
    for dtype in ("F16", "BF16", "Q8_0"):
        assert found(make_gguf(kit.QWEN, default_dtype=dtype)) == []


@pytest.mark.parametrize("dtype", ["keep", "f32", "bf16", "f16"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"UP": 0.0}, [("zero", UP)]),
        ({"UP": -0.0}, [("zero", UP)]),
        ({"UP": 0.5}, [("constant", UP)]),
        ({"NORM": 0.0}, [("zero", NORM)]),
        ({"NORM": 1.0}, []),  # as every norm is before training
        ({"BIAS": 0.0}, []),
        ({"BIAS": 2.0}, []),
        ({"GATE": 0.0, "UP": 0.0}, [("zero", GATE), ("zero", UP)]),  # and not duplicated as well
        ({"GATE": 0.5, "UP": 0.5}, [("constant", GATE), ("constant", UP)]),
    ],
)
def test_zeros_and_constants(make_folder, kit, found, values, expected, dtype):
    folder = make_folder(kit.QWEN, changed(kit, kit.QWEN, **values))
    assert found(folder, dtype=dtype) == expected


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("place", [1, 20_001, -2])
def test_one_other_value_anywhere_is_enough(make_folder, kit, found, value, place):
    tensors = changed(kit, UP=value)
    tensors[UP].flat[place] = 0.25
    assert found(make_folder(kit.LLAMA, tensors)) == []


def test_what_rounding_makes_of_it_counts(make_folder, kit, found):
    tensors = kit.random_tensors(kit.LLAMA)
    tensors[UP] *= np.float32(1e-9)  # below the least half-precision number
    folder = make_folder(kit.LLAMA, tensors)
    assert found(folder, dtype="f16") == [("zero", UP)]
    assert found(folder, dtype="bf16") == []


def test_a_matrix_that_is_there_twice(make_folder, make_gguf, kit, found):
    tensors = kit.random_tensors(kit.LLAMA)
    tensors[UP1] = tensors[UP].copy()
    tensors[V] = tensors[K].copy()
    expected = [("duplicated", V), ("duplicated", UP1)]
    assert found(make_folder(kit.LLAMA, tensors)) == expected
    for dtype in ("F32", "BF16", "Q8_0"):
        assert found(make_gguf(kit.LLAMA, tensors, default_dtype=dtype)) == expected


def test_the_message_names_the_first(make_folder, kit, tmp_path):
    tensors = kit.random_tensors(kit.LLAMA)
    for name in (UP, UP1):
        tensors[name] = tensors[GATE].copy()
    source = open_source(str(make_folder(kit.LLAMA, tensors)))
    made = import_checkpoint(source, tmp_path / "m.apr", tokenizer=None, record_reference=None)
    assert [(finding.tensor, GATE in finding.message) for finding in made.findings] == [
        (UP, True),
        (UP1, True),
    ]


def test_one_other_bit_is_another_matrix(make_folder, kit, found):
    tensors = kit.random_tensors(kit.LLAMA)
    tensors[UP1] = tensors[UP].copy()
    # A value between those that are glanced at (every 33rd of 131,072).
    tensors[UP1].reshape(-1).view(np.uint32)[1] ^= 1
    assert found(make_folder(kit.LLAMA, tensors)) == []


def test_equal_vectors_and_reshaped_matrices_are_none(make_folder, kit, found):
    tensors = kit.random_tensors(kit.LLAMA)
    for name in tensors:
        if tensors[name].ndim == 1:
            tensors[name] = np.linspace(1, 2, tensors[name].size, dtype=np.float32)
    tensors[DOWN] = tensors[UP].reshape(tensors[DOWN].shape).copy()
    assert found(make_folder(kit.LLAMA, tensors)) == []


def test_raw_blocks_are_compared_too(make_gguf, kit, found):
    tensors = kit.random_tensors(kit.LLAMA)
    tensors[UP] = tensors[UP1] = kit.random_blocks(512, 256, "Q4_K")
    path = make_gguf(kit.LLAMA, tensors, dtypes={UP: "Q4_K", UP1: "Q4_K"})
    assert found(path) == [("duplicated", UP1)]


def test_a_tied_head_is_no_duplicate_and_an_untied_copy_is(make_folder, kit, found):
    assert found(make_folder(kit.LLAMA)) == []
    untied = replace(kit.LLAMA, tie_word_embeddings=False)
    tensors = kit.random_tensors(untied)
    tensors[HEAD] = tensors[EMBEDDING].copy()
    assert found(make_folder(untied, tensors)) == [("duplicated", HEAD)]


def test_they_are_in_the_file(make_folder, kit, tmp_path):
    source = open_source(str(make_folder(kit.LLAMA, changed(kit, UP=0.0, K=2.0))))
    options = {"tokenizer": None, "record_reference": None}
    made = import_checkpoint(source, tmp_path / "m.apr", accepted=("zero", "duplicated"), **options)
    with open_apr(tmp_path / "m.apr") as file:
        facts = read_facts(file)
    assert [(item["rule"], item["tensor"]) for item in facts.findings] == [("constant", K), ("zero", UP)]
    assert [item["message"] for item in facts.findings] == [each.message for each in made.findings]
    assert facts.accepted == ("zero", "duplicated")
    assert facts.trust is None


def test_no_findings_leave_no_field(make_folder, kit, tmp_path):
    options = {"tokenizer": None, "record_reference": None}
    import_checkpoint(open_source(str(make_folder(kit.LLAMA))), tmp_path / "m.apr", **options)
    with open_apr(tmp_path / "m.apr") as file:
        assert not {"findings", "accepted", "trust"} & set(file.metadata["apr_pretrain"])
        assert (read_facts(file).findings, read_facts(file).accepted) == ((), ())


def test_nothing_is_read_twice(make_gguf, kit, tmp_path):
    """Once for the reference and once to be written: looking at the values needs no pass of its own."""
    loads = []

    def counted(tensor):
        return replace(tensor, load=lambda: (loads.append(tensor.name), tensor.load())[1])

    source = open_source(str(make_gguf(kit.LLAMA, default_dtype="Q8_0")))
    source = replace(source, tensors={name: counted(tensor) for name, tensor in source.tensors.items()})
    import_checkpoint(source, tmp_path / "m.apr", tokenizer=None, record_reference=read_all)
    assert max(Counter(loads).values()) == 2


def test_kept_floats_are_not_loaded_to_be_looked_at(make_folder, kit, tmp_path):
    source = open_source(str(make_folder(kit.LLAMA)))

    def unwanted():
        raise AssertionError("the whole tensor was loaded")

    tensors = {name: replace(tensor, load=unwanted) for name, tensor in source.tensors.items()}
    made = import_checkpoint(
        replace(source, tensors=tensors), tmp_path / "m.apr", tokenizer=None, record_reference=None
    )
    assert made.findings == ()


def test_what_is_not_finite_is_still_refused(make_folder, kit, tmp_path):
    source = open_source(str(make_folder(kit.LLAMA, changed(kit, UP=np.nan))))
    with pytest.raises(TensorNotFinite):
        import_checkpoint(source, tmp_path / "m.apr", tokenizer=None, record_reference=None)
    assert not (tmp_path / "m.apr").exists()
