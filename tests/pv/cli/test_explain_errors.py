"""Every error of pv has a page: `pv explain` lists it, and says what it means and what to do."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

import pv
from pv.errors import PvError
from pv.report.error_page import error_means, error_name, error_title
from pv.rules.table import rules_by_name
from pv_project import pv as run


def leaves(kind: type[PvError] = PvError) -> Iterator[type[PvError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("pv."):
            yield child
        yield from leaves(child)


def every_error() -> list[type[PvError]]:
    """All classes, after every module of pv was imported that is not a script of its own."""
    for module in pkgutil.walk_packages(pv.__path__, "pv."):
        if not module.name.startswith(("pv.inside", "pv.__main__")):
            importlib.import_module(module.name)
    return sorted(leaves(), key=lambda kind: kind.id)


ERRORS = every_error()


def test_the_list_has_every_error_class() -> None:
    done = subprocess.run(  # a process of its own, where nothing else has imported them
        [sys.executable, "-m", "pv", "explain"], capture_output=True, text=True, check=True
    )
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("PV")]
    assert listed == [kind.id for kind in ERRORS]
    assert len(listed) >= 26


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.id)
def test_a_page_says_what_happened_what_it_means_and_what_to_do(kind: type[PvError]) -> None:
    assert error_title(kind).endswith(".")
    assert error_means(kind).endswith(".")
    assert kind.help.partition("{")[0], "what to do must not hang on what is put in"
    page = run("explain", kind.id.lower()).stdout
    assert page.startswith(f"## {kind.id}: {error_name(kind)}\n")
    assert all(part in page for part in (error_title(kind), error_means(kind), kind.text, kind.help))
    assert run("explain", error_name(kind)).stdout == page


def test_no_error_has_the_name_of_a_rule() -> None:
    named = [name for kind in ERRORS for name in (kind.id, error_name(kind))]
    assert len({*named, *rules_by_name()}) == len(named) + len(rules_by_name())
