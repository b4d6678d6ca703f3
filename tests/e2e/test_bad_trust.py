"""`apr import` refuses files that are not the ones that somebody else names, and says what nobody vouches for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import open_apr
from apr.base.files import sha256_file
from apr.convert import hub
from apr.tokenizer.definition import save_definition
from apr.workflows import importing
from e2e.refusal import call, refused
from tiny import CONFIG, make_hf_folder, make_tokenizer

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
UP0, UP1 = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
A = "a" * 64


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_hf_folder(tmp_path / "hf")


@pytest.fixture(autouse=True)
def no_reference_is_begun(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal comes before the reference, which takes longest."""
    if "refused" in request.node.name:

        def begun(*arguments: Any) -> Any:
            raise AssertionError("the reference was begun")

        monkeypatch.setattr(importing, "record_ourselves", begun)


def imported(source: object, folder: Path, *more: object) -> tuple[object, ...]:
    return ("import", source, "-o", folder / "out" / "model.apr", "--oracle", "self", *more)


def listing(folder: Path, **changes: str | None) -> str:
    """What sha256sum prints of a folder; `changes` replace a digest, or with None leave the file out."""
    found = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
    found |= {name.replace("__", "."): digest for name, digest in changes.items()}  # type: ignore[misc]
    return "".join(f"{digest}  {name}\n" for name, digest in found.items() if digest)


def as_list(folder: Path) -> str:
    files = [{"name": path.name, "sha256": sha256_file(path)} for path in sorted(folder.iterdir())]
    return json.dumps({"files": files}, indent=1)


def as_object(folder: Path) -> str:
    return json.dumps({path.name: sha256_file(path) for path in folder.iterdir()})


@pytest.mark.parametrize("form", [listing, as_list, as_object])
def test_a_manifest_is_met(tmp_path: Path, source: Path, form: Callable[[Path], str]) -> None:
    (tmp_path / "sums").write_text(form(source))
    done = call(*imported(source, tmp_path, "--manifest", tmp_path / "sums", "--format", "json"))
    assert done.code == 0, done.stderr
    trust = done.json["trust"]
    assert (trust["root"], trust["unchecked"]) == ("manifest", [])
    assert trust["checked"] == sorted(path.name for path in source.iterdir())
    with open_apr(tmp_path / "out" / "model.apr") as file:
        assert read_facts(file).trust == trust


def test_a_digest_is_met(tmp_path: Path, source: Path) -> None:
    digest = sha256_file(source / WEIGHTS).upper()
    done = call(*imported(source, tmp_path, "--expect-sha256", digest))
    assert done.code == 0, done.stderr
    assert "trust by sha256, 1 of 4 files checked: " in done.stdout


def test_without_either_it_is_said(tmp_path: Path, source: Path) -> None:
    done = call(*imported(source, tmp_path))
    assert done.code == 0
    assert "trust by first use, 0 of 4 files checked: " in done.stdout
    assert "--expect-sha256" in done.stdout


MANIFESTS: dict[str, tuple[Callable[[Path], str], str, dict[str, object]]] = {
    "weights that differ": (
        lambda f: listing(f, model__safetensors=A), "APR823", {"file": WEIGHTS, "expected": A}
    ),
    "a config that differs": (lambda f: listing(f, config__json=A), "APR823", {"file": "config.json"}),
    "a tokenizer that differs": (
        lambda f: listing(f, tokenizer__json=A), "APR823", {"file": "tokenizer.json", "said_by": "sums"}
    ),
    "ids that are not listed": (
        lambda f: listing(f, tokenizer_apr__json=None), "APR824", {"files": "tokenizer_apr.json"}
    ),
    "a config that is not listed": (
        lambda f: listing(f, config__json=None), "APR824", {"files": "config.json"}
    ),
    "names with the folder": (lambda f: listing(f).replace("  ", "  hf/"), "APR824", {"files": "config.json"}),
    "a line that is none": (lambda f: listing(f) + "and more\n", "APR825", {"place": "line 5"}),
    "JSON that is cut off": (lambda f: as_list(f)[:-2], "APR825", {"place": "line"}),
    "nothing": (lambda f: "", "APR825", {"place": "line 1"}),
    "two digests of one name": (
        lambda f: listing(f) + f"{A}  {WEIGHTS}\n", "APR826", {"name": WEIGHTS, "second": A}
    ),
    "weights that are not there": (
        lambda f: listing(f, model2__safetensors=A), "APR827", {"files": "model2.safetensors"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", MANIFESTS)
def test_a_manifest_that_is_not_met_is_refused(tmp_path: Path, source: Path, defect: str) -> None:
    make, error_id, says = MANIFESTS[defect]
    (tmp_path / "sums").write_text(make(source))
    arguments = imported(source, tmp_path, "--manifest", tmp_path / "sums")
    refused(*arguments, error_id=error_id, says=says, folder=tmp_path)


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path, source: Path) -> None:
    arguments = imported(source, tmp_path, "--manifest", tmp_path / "sums")
    refused(*arguments, error_id="APR101", says={"kind": "manifest"}, folder=tmp_path)


@pytest.mark.parametrize("digest", ["abc", "", A[:-1] + "g"])
def test_a_digest_that_is_none_is_refused(tmp_path: Path, source: Path, digest: str) -> None:
    arguments = imported(source, tmp_path, "--expect-sha256", digest)
    refused(*arguments, error_id="APR001", says={"option": "--expect-sha256"}, folder=tmp_path)


def test_another_digest_is_refused(tmp_path: Path, source: Path) -> None:
    arguments = imported(source, tmp_path, "--expect-sha256", A)
    says = {"file": WEIGHTS, "found": sha256_file(source / WEIGHTS), "said_by": "--expect-sha256"}
    refused(*arguments, error_id="APR823", says=says, folder=tmp_path)


def test_a_config_that_was_edited_is_refused(tmp_path: Path, source: Path) -> None:
    """Another rope base computes, and computes wrongly: only a digest from elsewhere tells."""
    (tmp_path / "sums").write_text(listing(source))
    values = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(values | {"rope_theta": 500_000.0}))
    assert call(*imported(source, tmp_path / "other", "--oracle", "none")).code == 0
    arguments = imported(source, tmp_path, "--manifest", tmp_path / "sums")
    refused(*arguments, error_id="APR823", says={"file": "config.json"}, folder=tmp_path)


def test_one_digest_for_two_shards_is_refused(tmp_path: Path, source: Path) -> None:
    tensors = load_file(source / WEIGHTS)
    digest = sha256_file(source / WEIGHTS)
    (source / WEIGHTS).unlink()
    shards = {"model-00001-of-00002.safetensors": [UP0], "model-00002-of-00002.safetensors": [*tensors]}
    shards["model-00002-of-00002.safetensors"].remove(UP0)
    for file, names in shards.items():
        save_file({name: tensors[name] for name in names}, source / file)
    weight_map = {name: file for file, names in shards.items() for name in names}
    (source / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    arguments = imported(source, tmp_path, "--expect-sha256", digest)
    refused(*arguments, error_id="APR828", says={"count": 2}, folder=tmp_path)
    (tmp_path / "sums").write_text(listing(source, **{INDEX.replace(".", "__"): None}))
    arguments = imported(source, tmp_path, "--manifest", tmp_path / "sums")
    refused(*arguments, error_id="APR824", says={"files": INDEX}, folder=tmp_path)


def test_a_tokenizer_given_by_hand_is_refused_unless_listed(tmp_path: Path, source: Path) -> None:
    spelled = json.loads(make_tokenizer().json_text)  # another text of the same tokenizer
    other = replace(make_tokenizer(), json_text=json.dumps(spelled))
    save_definition(other, tmp_path / "given")
    (tmp_path / "sums").write_text(listing(source))
    options = ("--tokenizer", tmp_path / "given", "--manifest", tmp_path / "sums")
    arguments = imported(source, tmp_path, *options)
    refused(*arguments, error_id="APR823", says={"file": "tokenizer.json"}, folder=tmp_path)


def test_a_tokenizer_given_by_hand_is_a_source(tmp_path: Path, source: Path) -> None:
    save_definition(make_tokenizer(), tmp_path / "given")
    done = call(*imported(source, tmp_path, "--tokenizer", tmp_path / "given", "--format", "json"))
    assert set(done.json["trust"]["unchecked"]) == {
        *("config.json", WEIGHTS, "tokenizer.json", "tokenizer_apr.json"),
    }
    with open_apr(tmp_path / "out" / "model.apr") as file:
        digests = {item["name"]: item["sha256"] for item in read_facts(file).sources}
    assert digests["tokenizer.json"] == make_tokenizer().sha256


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def on_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Stand in for the hub, which lists this sha256 for the weights and the right blobs for the rest."""
    folder = make_hf_folder(tmp_path / "cache" / COMMIT)

    def put(weights_sha256: str) -> None:
        listed = []
        for path in folder.iterdir():
            lfs = SimpleNamespace(sha256=weights_sha256) if path.name == WEIGHTS else None
            blob = hub.git_blob_id(path)
            listed.append(SimpleNamespace(rfilename=path.name, blob_id=blob, lfs=lfs))
        api = SimpleNamespace(model_info=lambda *args, **options: SimpleNamespace(siblings=listed))
        monkeypatch.setattr(hub, "snapshot_download", lambda *args, **options: str(folder))
        monkeypatch.setattr(hub, "HfApi", lambda: api)

    return put


def test_a_cache_that_the_hub_lists_otherwise_is_refused(
    tmp_path: Path, on_hub: Callable[[str], None]
) -> None:
    on_hub(A)
    says = {"file": WEIGHTS, "kind": "sha256", "expected": A, "location": "hf://org/name"}
    refused(*imported("hf://org/name", tmp_path), error_id="APR829", says=says, folder=tmp_path)


def test_the_hub_is_a_root_of_trust(tmp_path: Path, on_hub: Callable[[str], None]) -> None:
    on_hub(sha256_file(tmp_path / "cache" / COMMIT / WEIGHTS))
    done = call(*imported("hf://org/name", tmp_path, "--format", "json"))
    assert (done.json["trust"]["root"], done.json["trust"]["unchecked"]) == ("hub", [])


# What is odd about the values


def spoil(source: Path, **changes: Any) -> None:
    tensors = load_file(source / WEIGHTS)
    save_file(tensors | {globals()[name]: value for name, value in changes.items()}, source / WEIGHTS)


def test_findings_do_not_stop_an_import(tmp_path: Path, source: Path) -> None:
    size = (CONFIG.intermediate_size, CONFIG.hidden_size)
    spoil(source, UP0=np.zeros(size, np.float32), UP1=np.full(size, 0.5, np.float32))
    done = call(*imported(source, tmp_path, "--format", "json"))
    assert done.code == 0
    expected = [("zero", UP0), ("constant", UP1)]
    assert [(item["rule"], item["tensor"]) for item in done.json["findings"]] == expected
    told = [line for line in done.stderr.splitlines() if line.startswith("finding: ")]
    assert [line.split(": ")[1] for line in told] == ["zero", "constant"]
    assert "--accept constant --accept zero" in done.stderr
    with open_apr(tmp_path / "out" / "model.apr") as file:
        facts = read_facts(file)
    assert [(item["rule"], item["tensor"]) for item in facts.findings] == expected
    assert facts.accepted == ()


def test_what_is_accepted_is_recorded(tmp_path: Path, source: Path) -> None:
    spoil(source, UP1=load_file(source / WEIGHTS)[UP0])
    options = ("--accept", "duplicated", "--accept", "zero", "--accept", "duplicated")
    done = call(*imported(source, tmp_path, *options, "--format", "json"))
    assert [(item["rule"], item["tensor"]) for item in done.json["findings"]] == [("duplicated", UP1)]
    assert done.json["accepted"] == ["duplicated", "zero"]
    assert "finding: duplicated: " in done.stderr
    assert "--accept" not in done.stderr
    with open_apr(tmp_path / "out" / "model.apr") as file:
        assert read_facts(file).accepted == ("duplicated", "zero")


def test_of_many_findings_five_are_told(tmp_path: Path, source: Path) -> None:
    """A model made deeper by repeating a layer: seven matrices are there twice."""
    tensors = load_file(source / WEIGHTS)
    copied = {name.replace("layers.0", "layers.1"): value for name, value in tensors.items() if ".0." in name}
    save_file(tensors | copied, source / WEIGHTS)
    done = call(*imported(source, tmp_path, "--format", "json"))
    assert len(done.json["findings"]) == 7
    told = [line for line in done.stderr.splitlines() if line.startswith("finding: ")]
    assert len(told) == 6
    assert told[5].startswith("finding: 7 in all")


def test_a_healthy_model_has_none(tmp_path: Path, source: Path) -> None:
    done = call(*imported(source, tmp_path, "--format", "json"))
    assert (done.json["findings"], done.json["accepted"]) == ([], [])
    assert "finding" not in done.stderr


def test_a_rule_that_is_none_is_refused(tmp_path: Path, source: Path) -> None:
    refused(*imported(source, tmp_path, "--accept", "all"), error_id="APR005", folder=tmp_path)
