"""An .apr file that is not whole, not true or not a decoder is refused through every command that reads one."""

from __future__ import annotations

import json
import math
import resource
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from apr.aprfile.metadata import ModelFacts, model_metadata
from apr.aprfile.writer import TensorSource, write_apr
from apr.arch.config import RopeScaling, TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD
from apr.stepzero.probe import probe_ids
from apr.tokenizer.engine import TextTokenizer
from apr.workflows.importing import record_ourselves
from e2e.refusal import JUDGED, RECORDED, call, refused, train
from tiny import CONFIG, make_tokenizer, make_weights

NORM, QUERY = "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"
DOWN, LAST = "model.layers.1.mlp.down_proj.weight", "model.layers.1.self_attn.o_proj.weight"


def sections(raw: bytes) -> dict[str, tuple[int, int]]:
    """Where each part of a file begins and ends."""
    metadata_size, index_at, data_at = struct.unpack_from("<IQQ", raw, 20)
    ends = {"metadata": 64 + metadata_size, "index": data_at, "data": len(raw) - 4, "footer": len(raw)}
    starts = {"metadata": 64, "index": index_at, "data": data_at, "footer": len(raw) - 4}
    return {"header": (0, 64)} | {name: (starts[name], ends[name]) for name in starts}


def cut(part: str) -> Callable[[bytes], bytes]:
    def apply(raw: bytes) -> bytes:
        start, end = sections(raw)[part]
        return raw[: (start + end) // 2]

    return apply


def flip(part: str, *, at: int | bytes = 5) -> Callable[[bytes], bytes]:
    """Change one byte of a part: at a distance from its start, or the last one of a text in it."""

    def apply(raw: bytes) -> bytes:
        start, end = sections(raw)[part]
        place = start + at if isinstance(at, int) else raw.index(at, start, end) + len(at) - 1
        return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]

    return apply


def header(**lies: int) -> Callable[[bytes], bytes]:
    """Replace header fields and sign the header anew."""

    def apply(raw: bytes) -> bytes:
        names = ("flags", "count", "metadata_at", "metadata_size", "index_at", "data_at")
        values = dict(zip(names, struct.unpack_from("<HIQIQQ", raw, 6), strict=True)) | lies
        head = raw[:6] + struct.pack("<HIQIQQ", *values.values())
        crc = zlib.crc32(raw[44:64], zlib.crc32(head))
        return head + struct.pack("<I", crc) + raw[44:]

    return apply


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str, dict[str, object]]] = {
    "empty": (lambda raw: b"", "APR201", {"found": "empty"}),
    "wrong magic": (lambda raw: b"NOPE" + raw[4:], "APR201", {"found": "4e 4f 50 45"}),
    "a GGUF by name": (lambda raw: b"GGUF" + raw[4:], "APR201", {"found": "GGUF"}),
    "cut off in the magic": (lambda raw: raw[:4], "APR202", {"part": "header", "required_bytes": 64}),
    "cut off in the header": (cut("header"), "APR202", {"part": "header", "size_bytes": 32}),
    "cut off in the metadata": (cut("metadata"), "APR202", {"part": "metadata"}),
    "cut off in the index": (cut("index"), "APR202", {"part": "tensor index"}),
    "cut off in the data": (cut("data"), "APR213", {}),
    "cut off in the footer": (cut("footer"), "APR202", {"part": "footer"}),
    "cut off before the footer": (lambda raw: raw[:-4], "APR202", {"part": "footer"}),
    "bytes behind the end": (lambda raw: raw + b"more of it", "APR216", {}),
    "a flipped magic byte": (flip("header", at=2), "APR201", {}),
    "a flipped version byte": (flip("header", at=4), "APR204", {"version": "3.0"}),
    "a flipped header byte": (flip("header", at=8), "APR206", {}),
    "a flipped brace in the metadata": (flip("metadata", at=0), "APR208", {}),
    "a flipped digit in the metadata": (flip("metadata", at=b'"hidden_size":6'), "APR218", {}),
    "a flipped letter in the index": (flip("index", at=b"model.norm.weigh"), "APR220", {}),
    "a flipped size in the index": (
        flip("index", at=b"model.norm.weight\0\1\x40"),
        "APR212",
        {"tensor": NORM},
    ),
    "a flipped weight": (flip("data", at=5), "APR219", {}),
    "a flipped footer": (flip("footer", at=1), "APR218", {}),
    "a claim of 2^32 tensors": (header(count=2**32 - 1), "APR207", {"field": "tensor_count"}),
    "a claim of 4 GB of metadata": (header(metadata_size=2**32 - 1), "APR207", {"field": "metadata_size"}),
    "a claim of 2^63 bytes of index": (header(data_at=2**63), "APR202", {"part": "tensor index"}),
}
READERS: dict[str, Callable[..., tuple[object, ...]]] = {
    "pretrain": lambda model, shards, run: train(model, shards, run),
    "dry run": lambda model, shards, run: (*train(model, shards, run), "--dry-run"),
    "inspect": lambda model, shards, run: ("inspect", model),
    "eval": lambda model, shards, run: ("eval", model, "--dataset", shards),
    "run": lambda model, shards, run: ("run", model, "the river"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("defect", DAMAGED)
def test_a_damaged_file(tmp_path: Path, tiny_apr: Path, tiny_shards: Path, defect: str, reader: str) -> None:
    spoil, error_id, says = DAMAGED[defect]
    model = tmp_path / "model.apr"
    model.write_bytes(spoil(tiny_apr.read_bytes()))
    arguments = READERS[reader](model, tiny_shards, tmp_path / "run")
    refused(*arguments, error_id=error_id, says={"path": model, **says}, folder=tmp_path)


def missing(folder: Path) -> Path:
    return folder / "nowhere" / "model.apr"


def a_folder(folder: Path) -> Path:
    (folder / "model.apr").mkdir()
    return folder / "model.apr"


def a_loop(folder: Path) -> Path:
    (folder / "model.apr").symlink_to(folder / "other.apr")
    (folder / "other.apr").symlink_to(folder / "model.apr")
    return folder / "model.apr"


def a_device(folder: Path) -> Path:
    return Path("/dev/null")


@pytest.mark.parametrize("reader", [*READERS, "tensors"])
@pytest.mark.parametrize("place", [missing, a_folder, a_loop, a_device])
def test_a_path_that_is_no_file(
    tmp_path: Path, tiny_shards: Path, place: Callable[[Path], Path], reader: str
) -> None:
    model = place(tmp_path)
    readers = {**READERS, "tensors": lambda model, shards, run: ("tensors", model)}
    arguments = readers[reader](model, tiny_shards, tmp_path / "run")
    refused(*arguments, error_id="APR101", says={"path": model}, folder=tmp_path)


ODD_NAMES = {
    "too long": "x" * 300,
    "not UTF-8": "model\udcff.apr",  # the byte ff, as the interpreter spells it
    "of two lines": "model\n.apr",
    "empty": "",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_is_odd(
    tmp_path: Path, tiny_shards: Path, name: str, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = READERS[reader](ODD_NAMES[name], tiny_shards, tmp_path / "run")
    refused(*arguments, error_id="APR106" if name == "too long" else "APR101", folder=tmp_path)


Weights = dict[str, np.ndarray]


def sealed(
    path: Path,
    *,
    weights: Weights | None = None,
    config: TransformerConfig = CONFIG,
    edit: Callable[[dict[str, Any]], None] = lambda metadata: None,
) -> Path:
    """A file with fresh checksums and digests, whatever it says and holds; nothing about it is a damaged byte."""
    weights = make_weights(CONFIG) if weights is None else weights
    tokenizer = make_tokenizer()
    facts = ModelFacts(
        config=config,
        tokenizer_json=tokenizer.json_text,
        tokenizer=tokenizer.to_dict(),
        reference=reference(),
    )
    metadata = model_metadata(facts)
    edit(metadata)
    sources = [
        TensorSource(name=name, dtype="F32", shape=value.shape, produce=lambda value=value: value)
        for name, value in weights.items()
    ]
    tied = HEAD not in weights and EMBEDDING in weights
    write_apr(path, metadata, sources, {HEAD: EMBEDDING} if tied else {})
    return path


@cache
def reference() -> dict[str, Any]:
    """What the tiny model's weights must give."""
    ids = probe_ids(TextTokenizer(make_tokenizer()))
    return record_ourselves(CONFIG, make_weights(CONFIG), ids).to_dict()


def changed(**changes: Any) -> Callable[[Weights], Weights]:
    """Weights with some replaced, by name; None leaves one out."""
    names = {"norm": NORM, "query": QUERY, "down": DOWN, "last": LAST, "head": HEAD}

    def apply(weights: Weights) -> Weights:
        new = {names.get(key, key): make(weights) for key, make in changes.items()}
        return {name: value for name, value in {**weights, **new}.items() if value is not None}

    return apply


def poisoned(value: float) -> Callable[[Weights], np.ndarray]:
    def apply(weights: Weights) -> np.ndarray:
        spoilt = weights[DOWN].copy()
        spoilt[3, 5] = value
        return spoilt

    return apply


TENSORS: dict[str, tuple[Callable[[Weights], Weights], str, dict[str, object]]] = {
    "missing": (changed(norm=lambda w: None), "APR321", {"differences": f"missing {NORM}"}),
    "extra": (changed(extra=lambda w: w[NORM]), "APR321", {"differences": "unexpected extra"}),
    "renamed": (
        changed(norm=lambda w: None, **{"model.norm.scale": lambda w: w[NORM]}),
        "APR321",
        {"differences": f"missing {NORM}; unexpected model.norm.scale"},
    ),
    "of another shape": (changed(down=lambda w: w[DOWN][:, :-1]), "APR321", {"differences": "[64, 255]"}),
    "transposed": (changed(down=lambda w: w[DOWN].T), "APR321", {"differences": "transposed"}),
    "a layer too many": (
        lambda w: w | {name.replace(".1.", ".2."): value for name, value in w.items() if ".layers.1." in name},
        "APR228",
        {"fields": "num_hidden_layers"},
    ),
    "a head in a tied model": (
        changed(head=lambda w: w[EMBEDDING] * 2), "APR228", {"fields": "tie_word_embeddings"}
    ),
    "of a GGUF": (lambda w: {"token_embd.weight": w[EMBEDDING]}, "APR230", {"tensor": "token_embd.weight"}),
    "none": (lambda w: {}, "APR228", {"fields": "num_hidden_layers"}),
}  # fmt: skip


@pytest.mark.parametrize("defect", TENSORS)
def test_tensors_that_are_not_those_of_the_config(tmp_path: Path, tiny_shards: Path, defect: str) -> None:
    spoil, error_id, says = TENSORS[defect]
    model = sealed(tmp_path / "model.apr", weights=spoil(make_weights(CONFIG)))
    refused(*train(model, tiny_shards, tmp_path / "run"), error_id=error_id, says=says, folder=tmp_path)


Edit = Callable[[dict[str, Any]], None]


def said(**values: Any) -> Edit:
    """Change the config inside the file's own description; `...` takes a field out."""

    def apply(metadata: dict[str, Any]) -> None:
        config = metadata["apr_pretrain"]["config"]
        config.update(values)
        for name in [name for name, value in config.items() if value is ...]:
            del config[name]

    return apply


def own(**values: Any) -> Edit:
    """Change other fields of the file's own description."""
    return lambda metadata: metadata["apr_pretrain"].update(values)


SAYINGS: dict[str, tuple[Edit, str, dict[str, object]]] = {
    "no rope_theta": (said(rope_theta=...), "APR301", {"fields": "rope_theta"}),
    "an unknown field": (said(rope_base=1e4), "APR302", {"field": "rope_base", "nearest": "rope_theta"}),
    "another size than the other keys": (said(hidden_size=128), "APR227", {"fields": "hidden_size"}),
    "heads that do not divide": (said(num_key_value_heads=3), "APR303", {"field": "num_key_value_heads"}),
    "an epsilon of zero": (said(rms_norm_eps=0), "APR303", {"field": "rms_norm_eps", "limit": "above 0"}),
    "an infinite number": (said(rope_theta="inf"), "APR303", {"field": "rope_theta"}),
    "2^24 layers": (said(num_hidden_layers=2**24), "APR303", {"field": "num_hidden_layers"}),
    "2^62 columns": (said(hidden_size=2**62), "APR303", {"field": "hidden_size"}),
    "a BERT": (said(family="bert"), "APR304", {"architecture": "bert"}),
    "gelu": (said(hidden_act="gelu"), "APR305", {"field": "hidden_act", "value": "gelu"}),
    "yarn": (said(rope_scaling={"rope_type": "yarn", "factor": 4.0}), "APR305", {"value": "yarn"}),
    "a config that is a list": (own(config=[]), "APR226", {"field": "apr_pretrain.config"}),
    "another tokenizer digest": (own(tokenizer_json_sha256="0" * 64), "APR229", {"expected": "0" * 64}),
    "special ids of another tokenizer": (
        own(tokenizer=make_tokenizer(300).to_dict()), "APR406", {"recorded": make_tokenizer(300).sha256[:12]}
    ),
    "no special ids": (own(tokenizer={}), "APR405", {"value": "missing"}),
    "no tokenizer": (own(tokenizer_json=None, tokenizer_json_sha256=None), "APR624", {}),
    "a reference without a loss": (own(reference={"grade": "A"}), "APR501", {"reason": "oracle"}),
}  # fmt: skip


@pytest.mark.parametrize("defect", SAYINGS)
def test_a_description_that_is_not_true(tmp_path: Path, tiny_shards: Path, defect: str) -> None:
    edit, error_id, says = SAYINGS[defect]
    model = sealed(tmp_path / "model.apr", edit=edit)
    refused(*train(model, tiny_shards, tmp_path / "run"), error_id=error_id, says=says, folder=tmp_path)


CONTRADICTIONS = {
    "vocab_size": (321, 320),
    "hidden_size": (128, 64),
    "intermediate_size": (512, 256),
    "num_hidden_layers": (3, 2),
    "num_key_value_heads": (4, 2),
    "attention_bias": (True, False),
    "tie_word_embeddings": (False, True),
}


@pytest.mark.parametrize("field", CONTRADICTIONS)
def test_a_config_that_contradicts_the_tensors(tmp_path: Path, tiny_shards: Path, field: str) -> None:
    claimed, real = CONTRADICTIONS[field]
    assert getattr(CONFIG, field) == real
    model = sealed(tmp_path / "model.apr", config=replace(CONFIG, **{field: claimed}))
    says = {"fields": field, "differences": claimed}
    refused(*train(model, tiny_shards, tmp_path / "run"), error_id="APR228", says=says, folder=tmp_path)


def test_an_untied_model_that_says_it_is_tied(tmp_path: Path, tiny_shards: Path) -> None:
    untied = replace(CONFIG, tie_word_embeddings=False)
    model = sealed(tmp_path / "model.apr", weights=make_weights(untied))
    says = {"fields": "tie_word_embeddings"}
    refused(*train(model, tiny_shards, tmp_path / "run"), error_id="APR228", says=says, folder=tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("reader", ["pretrain", "eval", "run"])
def test_a_weight_that_is_no_number(tmp_path: Path, tiny_shards: Path, value: float, reader: str) -> None:
    model = sealed(tmp_path / "model.apr", weights=changed(down=poisoned(value))(make_weights(CONFIG)))
    refused(
        *READERS[reader](model, tiny_shards, tmp_path / "run"),
        error_id="APR322",
        says={"tensor": DOWN, "num_values": 1},
        folder=tmp_path,
        leaves=RECORDED if reader == "pretrain" else (),
    )


NOT_ITSELF = {
    "one layer times 1.01": {"weights": changed(last=lambda w: w[LAST] * np.float32(1.01))},
    "one norm times 1.01": {"weights": changed(norm=lambda w: w[NORM] * np.float32(1.01))},
    "two layers exchanged": {
        "weights": lambda w: {name.translate(str.maketrans("01", "10")): value for name, value in w.items()}
    },
    "rows of the embedding shifted by one": {
        "weights": lambda w: w | {EMBEDDING: np.roll(w[EMBEDDING], 1, axis=0)}
    },
    "another rope_theta": {"config": replace(CONFIG, rope_theta=5e4)},
    "another rms_norm_eps": {"config": replace(CONFIG, rms_norm_eps=1e-2)},
    "linear rope scaling": {
        "config": replace(CONFIG, rope_scaling=RopeScaling(rope_type="linear", factor=2.0))
    },
}


@pytest.mark.parametrize("defect", NOT_ITSELF)
def test_a_whole_file_that_is_not_the_model_it_was_imported_from(
    tmp_path: Path, tiny_shards: Path, defect: str
) -> None:
    """Every digest holds, config and tensors agree: only the reference knows."""
    parts: dict[str, Any] = dict(NOT_ITSELF[defect])
    if "weights" in parts:
        parts["weights"] = parts["weights"](make_weights(CONFIG))
    model = sealed(tmp_path / "model.apr", **parts)
    assert call("inspect", model).code == 0
    arguments = train(model, tiny_shards, tmp_path / "run")
    refused(*arguments, error_id="APR502", says={"gate": "reference"}, folder=tmp_path, leaves=JUDGED)
    certificate = json.loads((tmp_path / "run/certificate.json").read_bytes())
    assert certificate["verdict"] == "no"


def test_the_model_itself_is_not_refused(tmp_path: Path, tiny_shards: Path) -> None:
    """What the cases above change one thing of does train: without that, none of them would mean anything."""
    model = sealed(tmp_path / "model.apr")
    assert call(*train(model, tiny_shards, tmp_path / "run")).code == 0


BERT = BertConfig(
    vocab_size=320, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
)


@pytest.fixture(scope="module")
def bert_weights() -> Weights:
    torch.manual_seed(0)
    return {name: value.numpy().copy() for name, value in BertModel(BERT).state_dict().items()}


@pytest.mark.parametrize("claim", ["bert", "llama"])
@pytest.mark.parametrize("reader", READERS)
def test_an_encoder(
    tmp_path: Path, tiny_shards: Path, bert_weights: Weights, claim: str, reader: str
) -> None:
    """FALSIFY-APR-PRETRAIN-ARCH-007; the names of the tensors tell it, whatever the file calls itself."""
    model = tmp_path / "bert.apr"
    if claim == "llama":
        sealed(model, weights=bert_weights)
    else:
        write_foreign(model, {"architecture": "bert", "hidden_size": 64, "num_layers": 2}, bert_weights)
    arguments = READERS[reader](model, tiny_shards, tmp_path / "run")
    refused(*arguments, error_id="APR304", says={"architecture": "encoder"}, folder=tmp_path)


def write_foreign(path: Path, metadata: dict[str, Any], weights: Weights) -> None:
    """An .apr file without this program's own description, as other programs write it."""
    write_apr(
        path,
        metadata,
        [
            TensorSource(name=name, dtype="F32", shape=value.shape, produce=lambda value=value: value)
            for name, value in weights.items()
            if value.dtype == np.float32
        ],
    )


@pytest.mark.parametrize("defect", [name for name in DAMAGED if name.startswith("a claim")])
def test_huge_claims_cost_nothing(tmp_path: Path, tiny_apr: Path, tiny_shards: Path, defect: str) -> None:
    model = tmp_path / "model.apr"
    model.write_bytes(DAMAGED[defect][0](tiny_apr.read_bytes()))
    bounded(*train(model, tiny_shards, tmp_path / "run"), error_id=DAMAGED[defect][1], folder=tmp_path)


HUGE: dict[str, tuple[dict[str, Any], tuple[object, ...], str]] = {
    "2^24 layers": ({"edit": said(num_hidden_layers=2**24)}, (), "APR303"),
    "layers that are not there": ({"config": replace(CONFIG, num_hidden_layers=2**12)}, (), "APR228"),
    "columns that are not there": ({"config": replace(CONFIG, intermediate_size=2**24)}, (), "APR228"),
    "a window beyond the data": (
        {"config": replace(CONFIG, max_position_embeddings=2**24)},
        ("--seq-length", 2**24, "--allow-shard-cycle"),
        "APR447",
    ),
    "a batch beyond the machine": ({}, ("--batch-size", 2**40, "--allow-shard-cycle"), "APR606"),
}


@pytest.mark.parametrize("claim", HUGE)
def test_huge_sizes_cost_nothing(tmp_path: Path, tiny_shards: Path, claim: str) -> None:
    parts, more, error_id = HUGE[claim]
    model = sealed(tmp_path / "model.apr", **parts)
    bounded(*train(model, tiny_shards, tmp_path / "run", *more), error_id=error_id, folder=tmp_path)


def bounded(*arguments: object, error_id: str, folder: Path) -> None:
    """A refusal that takes less than 5 s and 100 MB, whatever the file claims."""
    start, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(*arguments, error_id=error_id, folder=folder)
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000  # KB
