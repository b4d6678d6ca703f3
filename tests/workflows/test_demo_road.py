"""`apr demo`, with a tiny model in the place of the published one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apr.base.errors import BadOption
from apr.base.files import sha256_file
from apr.convert.published import PUBLISHED
from apr.train.reporter import Silent
from apr.workflows import demo
from tiny import make_corpus, make_hf_folder

pytestmark = pytest.mark.usefixtures("one_thread")


class Listener(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_the_corpus_is_this_pythons_own_library() -> None:
    found = demo.standard_library_sources()
    assert {"os.py", "dataclasses.py"} <= {path.name for path in found}
    assert found == sorted(found)
    assert len(found) > 300
    assert not any(part in {"site-packages", "test", "tests"} for path in found for part in path.parts[-3:])


def test_no_steps_are_no_demo(tmp_path: Path) -> None:
    with pytest.raises(BadOption):
        demo.run_demo(tmp_path, 0, "self", Silent())
    assert list(tmp_path.iterdir()) == []


def test_the_road_from_a_checkpoint_to_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_hf_folder(tmp_path / "hf")
    corpus = sorted(make_corpus(tmp_path / "text", documents=200).iterdir())
    sha256 = sha256_file(folder / "model.safetensors")
    monkeypatch.setattr(demo, "fetch_published", lambda name, progress: folder)
    monkeypatch.setattr(demo, "standard_library_sources", lambda: corpus)
    monkeypatch.setitem(demo.PUBLISHED, demo.MODEL, replace(PUBLISHED[demo.MODEL], sha256=sha256))
    monkeypatch.setattr(demo, "_SEQ_LENGTH", 64)
    shown = demo.inspect_file  # a folder has several sources, the published file is one
    weights_only = [{"sha256": sha256}]
    monkeypatch.setattr(demo, "inspect_file", lambda path: {**shown(path), "sources": weights_only})

    results: list[dict[str, Any]] = []
    for _ in range(2):  # the second time everything is there already, and a new run begins
        listener = Listener()
        results.append(demo.run_demo(tmp_path / "demo", 2, "self", listener))
    assert [Path(result["run_dir"]).name for result in results] == ["run-1", "run-2"]
    assert not any(note.startswith("importing") for note in listener.notes)
    first = results[0]
    assert (first["num_steps"], first["grade"]) == (2, "B")
    assert first["final_val_loss"] < first["step0_val_loss"]
    assert Path(first["checkpoint"]).is_file()
    same = ("step0_val_loss", "final_val_loss", "sample")
    assert [first[key] for key in same] == [results[1][key] for key in same]
