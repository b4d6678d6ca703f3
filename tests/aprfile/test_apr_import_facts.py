"""What an import found, what was accepted and what was trusted: written, read back, judged when read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apr.aprfile.errors import FactsBad
from apr.aprfile.metadata import model_metadata, read_facts
from apr.aprfile.reader import open_apr
from apr.aprfile.writer import write_apr
from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD

FINDING = {"rule": "zero", "tensor": "x", "message": "every value of x is 0"}
TRUST = {
    "root": "first use",
    "checked": [],
    "unchecked": ["x.gguf"],
    "says": "nothing says what it should be",
}


def test_they_come_back(tmp_path: Path, tiny_config: TransformerConfig, write_tiny: Any) -> None:
    said = {"findings": (FINDING,), "accepted": ("zero", "duplicated"), "trust": TRUST}
    write_tiny(tmp_path / "x.apr", tiny_config, **said)
    with open_apr(tmp_path / "x.apr") as file:
        facts = read_facts(file)
    assert {name: getattr(facts, name) for name in said} == said


def test_a_file_without_them_does_not_speak_of_them(tiny_config: TransformerConfig, make_facts: Any) -> None:
    own = model_metadata(make_facts(tiny_config))["apr_pretrain"]
    assert not {"findings", "accepted", "trust"} & set(own)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("findings", None),
        ("findings", {}),
        ("findings", "zero"),
        ("findings", ["zero"]),
        ("findings", [FINDING, {}]),
        ("findings", [FINDING | {"rule": "odd"}]),
        ("findings", [FINDING | {"rule": ["zero"]}]),
        ("findings", [FINDING | {"tensor": 1}]),
        ("findings", [FINDING | {"message": None}]),
        ("findings", [FINDING | {"more": "x"}]),
        ("accepted", None),
        ("accepted", "zero"),
        ("accepted", {"zero": True}),
        ("accepted", ["everything"]),
        ("accepted", [1]),
        ("accepted", [["zero"]]),
        ("trust", None),
        ("trust", []),
        ("trust", {}),
        ("trust", TRUST | {"root": "hearsay"}),
        ("trust", TRUST | {"root": None}),
        ("trust", TRUST | {"checked": "x.gguf"}),
        ("trust", TRUST | {"unchecked": [1]}),
        ("trust", TRUST | {"says": 1}),
        ("trust", TRUST | {"more": 1}),
    ],
)
def test_what_is_not_one_is_refused(
    tmp_path: Path, tiny_config: TransformerConfig, make_facts: Any, make_sources: Any, field: str, value: Any
) -> None:
    metadata = model_metadata(make_facts(tiny_config))
    metadata["apr_pretrain"][field] = value
    write_apr(tmp_path / "x.apr", metadata, make_sources(tiny_config), {HEAD: EMBEDDING})
    with open_apr(tmp_path / "x.apr") as file, pytest.raises(FactsBad) as caught:
        read_facts(file)
    assert caught.value.field == f"apr_pretrain.{field}"
