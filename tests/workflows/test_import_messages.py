"""What a library warns of while a reference is recorded ends the import, unless a gate is known to judge it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from apr.stepzero.errors import LibraryWarned
from apr.workflows import importing
from tiny import make_hf_folder


def warning_with(text: str, original: Any) -> Any:
    def record(*args: Any) -> Any:
        warnings.warn(text, stacklevel=2)
        return original(*args)

    return record


def test_an_unknown_warning_ends_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Some weights were newly initialized"
    monkeypatch.setattr(importing, "record_ourselves", warning_with(said, importing.record_ourselves))
    source = make_hf_folder(tmp_path / "source")
    with pytest.raises(LibraryWarned) as caught:
        importing.import_model(str(source), tmp_path / "model.apr", oracle="self")
    assert said in caught.value.said
    assert not (tmp_path / "model.apr").exists()


def test_a_warning_that_a_gate_judges_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "`torch_dtype` is deprecated! Use `dtype` instead!"
    monkeypatch.setattr(importing, "record_ourselves", warning_with(said, importing.record_ourselves))
    source = make_hf_folder(tmp_path / "source")
    importing.import_model(str(source), tmp_path / "model.apr", oracle="self")
    assert (tmp_path / "model.apr").is_file()
