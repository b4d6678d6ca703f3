"""Every change of a contract of ours is found by a rule or classified by a diff, but for those that mean nothing."""

from __future__ import annotations

import json
from pathlib import Path

from pv.change.compare import compare_contracts
from pv.contract.contract import Contract, Unreadable, read_contract
from pv.profile import Profile
from pv.tree.load import load_tree
from pv_mutants import findings_of, mutants

ROOT = Path(__file__).parents[3]
PATH = ROOT / "contracts" / "tokens-v1.yaml"
# What is gone is what stands there by default, or the version, which a diff shows beside the changes.
SAME = {
    ("delete", "metadata.depends_on"),
    ("delete", "proof_obligations[].type"),
    ("change", "metadata.version"),
}


def read(text: str) -> Contract | Unreadable:
    return read_contract(load_tree(text, str(PATH)), text, str(PATH), Profile.STRICT)


def test_every_key() -> None:
    text = PATH.read_text(encoding="utf-8")
    whole = read(text)
    assert isinstance(whole, Contract)
    passed = set()
    for mutant in mutants(text):
        mutated = read(json.dumps(mutant.value))
        is_classified = isinstance(mutated, Contract) and compare_contracts(whole, mutated)
        if not is_classified and not findings_of(mutant.value, PATH, ROOT):
            passed.add((mutant.how, mutant.key))
    assert passed == SAME
