"""An id stands more than once among all contracts.

Evidence of one claim would count for another. Ids are compared without case, because some disks do not tell it apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.corpus import Claim, claims_of
from pv.rules.examples import STRICT_BASE, Example
from pv.rules.rule import STRICT, Around, Offence, Rule


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    for claim in claims_of(contract):
        others = around.corpus.claims.get(claim.id.lower(), ())
        other = next((o for o in others if _spot(o) != _spot(claim)), None)
        if other is None or (other.path == claim.path and other.what == claim.what != "obligation"):
            continue  # two tests or two proofs of one file: SCHEMA-007 and SCHEMA-010 say so
        if _spot(other) < _spot(claim):
            says = f"the id {claim.id} is that of the {other.what} in {other.path}, line {other.line}"
            yield Offence(claim.place, says, "give one of the two another id")


def _spot(claim: Claim) -> tuple[str, int, int]:
    """Where an id stands: several may stand in one line."""
    return claim.path, claim.place.line, claim.place.column


RULE = Rule(
    page=__doc__,
    id="STRICT-004",
    name="id-taken",
    profiles=STRICT,
    bad=Example(
        changes=(),
        beside=(("also-v1", STRICT_BASE.replace("SPLIT-FAL", "ALSO-FAL").replace("SPLIT-PRF", "ALSO-PRF")),),
    ),
    good=Example(changes=(), beside=(("also-v1", STRICT_BASE.replace("SPLIT-", "ALSO-")),)),
    check=_check,
)
