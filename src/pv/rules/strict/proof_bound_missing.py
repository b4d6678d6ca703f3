"""A proof does not state how far it reaches.

Every case of how many, how many examples from which seed: these are different grades, and are never mixed.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for proof in contract.proofs:
        if proof.runner is None:
            continue
        for name in _NEEDED[proof.runner.kind]:
            value = getattr(proof.runner, name)
            if value is None or (value == 0 and name != "seed"):
                says = f"the {proof.runner.kind} proof {proof.id} has no {name}"
                yield Offence(proof.runner.where(name), says, f"state {name}")


_NEEDED = {"exhaustive": ("domain", "size"), "hypothesis": ("examples", "seed"), "crosshair": ()}


RULE = Rule(
    page=__doc__,
    id="STRICT-019",
    name="proof-bound-missing",
    profiles=STRICT,
    bad=edit(", size: 65536}", "}"),
    good=edit(
        '{exhaustive: "split.proofs:one_side", domain: "split.proofs:hashes", size: 65536}',
        '{hypothesis: "split.proofs:one_side", examples: 1000, seed: 0}',
    ),
    check=_check,
)
