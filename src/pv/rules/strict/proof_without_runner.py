"""A bounded proof names nothing that can be run.

Of the proofs that the field names, two in three do not exist. A runner is `exhaustive`, `hypothesis` or `crosshair`.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule
from pv.rules.targets import is_dotted


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for proof in contract.proofs:
        if proof.runner is None:
            fix = "give it a runner: exhaustive, hypothesis or crosshair"
            yield Offence(proof.where("runner"), f"the proof {proof.id} has no runner", fix)
        elif not is_dotted(proof.runner.target):
            says = f"{proof.runner.target!r} names no attribute"
            yield Offence(proof.runner.where(proof.runner.kind), says, "write package.module:function")
        elif proof.runner.domain is not None and not is_dotted(proof.runner.domain):
            says = f"{proof.runner.domain!r} names no attribute"
            yield Offence(proof.runner.where("domain"), says, "write package.module:function")


RULE = Rule(
    page=__doc__,
    id="STRICT-018",
    name="proof-without-runner",
    profiles=STRICT,
    bad=edit(
        '    runner: {exhaustive: "split.proofs:one_side", domain: "split.proofs:hashes", size: 65536}\n',
        "    harness: verify_one_side\n",
    ),
    good=edit(
        '{exhaustive: "split.proofs:one_side", domain: "split.proofs:hashes", size: 65536}',
        '{crosshair: "split.side:side"}',
    ),
    check=_check,
)
