from __future__ import annotations

import fnmatch
import shutil

import pytest
from huggingface_hub.errors import RevisionResolutionError

from apr.convert import hub
from apr.convert.errors import HubLocationBad, HubUnavailable
from apr.convert.source import open_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("location", "revision"),
    [("hf://org/name", None), ("hf://org/na.me-2", None), ("hf://org/name@v1.0", "v1.0")],
)
def test_a_checkpoint_comes_at_one_commit(monkeypatch, make_folder, kit, tmp_path, location, revision):
    asked = {}

    def download(repo, *, revision, allow_patterns):
        asked.update(repo=repo, revision=revision)
        folder = tmp_path / COMMIT
        shutil.copytree(make_folder(kit.LLAMA), folder, dirs_exist_ok=True)
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    source = open_source(location)
    assert asked == {"repo": location.removeprefix("hf://").split("@")[0], "revision": revision}
    assert {file.revision for file in source.files} == {COMMIT}
    assert source.config == kit.LLAMA


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no route"),
        RevisionResolutionError("gone"),
        ValueError(""),
        RuntimeError("two\nlines"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_network_is_one_sentence(monkeypatch, error):
    def download(repo, **options):
        raise error

    monkeypatch.setattr(hub, "snapshot_download", download)
    with pytest.raises(HubUnavailable) as caught:
        open_source("hf://org/name")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_download_without_a_commit_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "snapshot_download", lambda repo, **options: str(tmp_path / "main"))
    with pytest.raises(HubUnavailable):
        open_source("hf://org/name")


@pytest.mark.parametrize(
    "location", ["hf://", "hf://name", "hf://org/name/file", "hf://org/name@", "hf://a b/c"]
)
def test_a_location_spelled_otherwise_is_refused(location):
    with pytest.raises(HubLocationBad):
        open_source(location)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("model.safetensors", True),
        ("model-00001-of-00002.safetensors", True),
        ("tokenizer.json", True),
        ("onnx/model.safetensors", False),
        ("pytorch_model.bin", False),
        ("consolidated.safetensors", False),
    ],
)
def test_only_what_an_import_reads_is_downloaded(name, wanted):
    assert any(fnmatch.fnmatch(name, pattern) for pattern in hub.PATTERNS) == wanted
