"""Errors are values: they print, they pickle, they keep their ids."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import pkgutil
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import apr
from apr.base.errors import AprError, CannotRead, FileMissing, known_errors
from apr.base.files import require_file

for room in pkgutil.iter_modules(apr.__path__):
    if room.ispkg and room.name != "cli" and importlib.util.find_spec(f"apr.{room.name}.errors"):
        importlib.import_module(f"apr.{room.name}.errors")

SAMPLES: dict[str, Any] = {"str": "a {b} c", "int": 12_345, "float": 2.5, "bool": True, "tuple": ("a", "b")}


def sample(kind: type[AprError]) -> AprError:
    return kind(**{field.name: SAMPLES[re.split(r"\W", str(field.type))[0]] for field in fields(kind)})


def leaves() -> list[type[AprError]]:
    found, queue = [], [AprError]
    while queue:
        children = queue.pop().__subclasses__()
        queue += children
        found += [child for child in children if child.__module__.startswith("apr.")]
    return found


def test_ids_are_unique_and_well_formed() -> None:
    ids = [kind.id for kind in leaves()]
    assert len(ids) > 60
    assert sorted(set(ids)) == sorted(ids)
    assert all(len(i) == 6 and i.startswith("APR") and i[3:].isdigit() and i != "APR000" for i in ids)
    assert {kind.id: kind for kind in leaves()}.items() <= known_errors().items()


def test_a_taken_id_is_refused() -> None:
    with pytest.raises(AssertionError):

        class Usurper(AprError):
            id = FileMissing.id


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.id)
def test_every_error_can_be_said_and_sent(kind: type[AprError]) -> None:
    error = sample(kind)
    assert error.id in str(error)
    assert error.message
    assert error.advice
    assert "\n" not in str(error)
    assert error.exit_code in (1, 2, 3)
    assert kind.__doc__
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert again.facts == error.facts == copy.copy(error).facts
    json.dumps(error.facts)  # whatever a fact is, a machine can read it


def test_a_process_pool_returns_the_error(tmp_path: Path) -> None:
    # spawn: a fork of a process with torch's threads in it is warned of.
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(FileMissing) as caught,
    ):
        pool.submit(require_file, tmp_path, "model", "a test").result(timeout=60)
    assert caught.value.facts == {"path": str(tmp_path), "kind": "model", "made_by": "a test"}


def test_facts_come_in_order_and_the_sentence_from_them() -> None:
    error = CannotRead(path="x.apr", reason="too old")
    assert list(error.facts.items()) == [("path", "x.apr"), ("reason", "too old")]
    assert str(error) == f"APR102: {error.message}; {error.advice}"
    assert error.message == "x.apr cannot be read (too old)"


@pytest.mark.parametrize(
    ("value", "said"),
    [(9999, "9999"), (10_000, "10,000"), (-12_345, "-12,345"), (True, "True"), (0.5, "0.5")],
)
def test_large_counts_carry_separators(value: Any, said: str) -> None:
    @dataclass(kw_only=True, eq=False)
    class Counted(AprError):
        id = "APR999"
        text = "{value}"
        value: Any

    assert Counted(value=value).message == said
    assert hash(Counted(value=value))  # usable in sets and context managers
