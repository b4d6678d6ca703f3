"""`bounded_proofs:` (in the field `kani_harnesses:`) what is shown for every case within a bound.

runner: {exhaustive: "package.module:check", domain: "package.module:cases", size: 4096}
runner: {hypothesis: "package.module:property", examples: 1000, seed: 1}
runner: {crosshair: "package.module:function"}
"""

from __future__ import annotations

from dataclasses import dataclass

from pv.contract.control import Control, read_controls
from pv.contract.falsifier import DEFAULT_TIMEOUT_S
from pv.contract.fields import Fields
from pv.contract.located import Located
from pv.profile import Profile

STRATEGIES_V1 = ("exhaustive", "stub_float", "compositional", "bounded_int")
STRATEGIES = (*STRATEGIES_V1, "bounded_float")
PROVERS = ("exhaustive", "hypothesis", "crosshair")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover(Located):
    """What looks for a counterexample: every case, random ones, or all paths symbolically."""

    kind: str  # of PROVERS
    target: str  # "package.module:attribute"
    domain: str | None  # exhaustive: a callable that gives the cases, each passed to the target
    size: int | None  # exhaustive: how many cases the domain has
    examples: int | None  # hypothesis
    seed: int | None  # hypothesis


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof(Located):
    """A claim within a bound."""

    id: str
    obligation: str
    property: str | None
    bound: int | None
    strategy: str | None
    solver: str | None
    harness: str | None
    actually_verified: bool  # says the author
    runner: Prover | None
    controls: tuple[Control, ...]
    timeout_s: float
    subjects: tuple[str, ...]


def read_proof(f: Fields) -> Proof:
    """One bounded proof, from its fields."""
    strict = f.later(Profile.STRICT)
    timeout_s = strict.number("timeout_s")
    is_v1 = f.reading.profile is Profile.PV1
    return Proof(
        id=f.text("id"),
        obligation=f.text("obligation"),
        property=f.optional_text("property"),
        bound=f.count("bound"),
        strategy=f.choice("strategy", STRATEGIES_V1 if is_v1 else STRATEGIES),
        solver=f.optional_text("solver"),
        harness=f.optional_text("harness"),
        actually_verified=f.later(Profile.PV2).flag("actually_verified"),
        runner=strict.child("runner", _read_prover),
        controls=read_controls(strict),
        timeout_s=DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s,
        subjects=strict.one_or_more("subjects"),
        **f.located(),
    )


def _read_prover(f: Fields) -> Prover | None:
    named = [kind for kind in PROVERS if f.node.get(kind) is not None]
    if len(named) != 1:
        told = "names none" if not named else f"names {' and '.join(named)}"
        f.problem(f.node.place, f"{f.within} {told}, and must name one of {', '.join(PROVERS)}")
        return None
    kind = named[0]
    exhaustive, sampled = kind == "exhaustive", kind == "hypothesis"
    return Prover(
        kind=kind,
        target=f.text(kind),
        domain=f.optional_text("domain") if exhaustive else None,
        size=f.count("size") if exhaustive else None,
        examples=f.count("examples") if sampled else None,
        seed=f.count("seed") if sampled else None,
        **f.located(),
    )
