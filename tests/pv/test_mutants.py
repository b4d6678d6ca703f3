"""Which changes of a contract of ours are not found by its rules: those that docs/pv-design.md lists, and no others."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from pv.contract.contract import Contract, read_contract
from pv.profile import Profile
from pv.tree.load import load_tree
from pv_mutants import findings_of, mutants

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pv-design.md"
BEGIN, END = "<!-- survivors -->\n", "<!-- end of survivors -->\n"


def survivors(path: Path) -> tuple[int, dict[str, set[str]]]:
    """How many mutants there are, and by how they were made the keys of those that nothing finds."""
    total, left = 0, defaultdict(set)
    for mutant in mutants(path.read_text(encoding="utf-8")):
        total += 1
        if not findings_of(mutant.value, path, ROOT):
            left[mutant.how].add(mutant.key)
    return total, left


def listed(left: dict[str, set[str]]) -> str:
    return "".join(f"- {how}: {', '.join(f'`{key}`' for key in sorted(left[how]))}\n" for how in sorted(left))


def test_what_survives_is_what_the_page_lists() -> None:
    _, left = survivors(ROOT / "contracts" / "tokens-v1.yaml")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    shown, _, after = rest.partition(END)
    if os.environ.get("PV_WRITE_SURVIVORS"):
        PAGE.write_text(before + BEGIN + listed(left) + END + after, encoding="utf-8")
    assert shown == listed(left)


def test_a_misspelled_key_survives_only_as_a_name() -> None:
    _, left = survivors(ROOT / "contracts" / "tokens-v1.yaml")
    assert left["misspell"] == {"equations.NAME"}


def test_the_contract_without_a_change_has_no_findings() -> None:
    path = ROOT / "contracts" / "tokens-v1.yaml"
    text = path.read_text(encoding="utf-8")
    contract = read_contract(load_tree(text, str(path)), text, str(path), Profile.STRICT)
    assert isinstance(contract, Contract)
    assert len(list(mutants(text))) > 800
