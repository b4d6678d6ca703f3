"""`equations:` what must hold, written as mathematics."""

from __future__ import annotations

from dataclasses import dataclass

from pv.contract.fields import Fields
from pv.contract.located import Located
from pv.profile import Profile
from pv.tree.nodes import Items, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation(Located):
    """One equation."""

    name: str
    formula: str
    domain: str | None
    codomain: str | None
    invariants: tuple[str, ...]
    preconditions: tuple[str, ...]
    postconditions: tuple[str, ...]
    lean_theorem: str | None
    float_tolerance: float | None
    assumes: Node | None  # shape contracts, whose expressions nobody reads
    guarantees: Node | None


def read_equations(f: Fields) -> tuple[Equation, ...]:
    """The equations of a contract: a map of names, or a list of items with an id.

    Args:
        f: the fields of the contract.
    """
    node = f.take("equations")
    if f.reading.profile is Profile.PV1 and node is None:
        f.problem(f.node.place, "equations is missing")
    if isinstance(node, Items) and f.reading.profile > Profile.PV1:
        return tuple(_item(f.within_of(item, f"equations[{i}]"), i) for i, item in enumerate(node.items))
    return tuple(f.named("equations", _equation).values()) if node is not None else ()


def _item(f: Fields, index: int) -> Equation:
    return _equation(f.optional_text("id") or f"equation-{index}", f)


def _equation(name: str, f: Fields) -> Equation:
    v2 = f.later(Profile.PV2)
    formula = f.text("formula") if f.reading.profile is Profile.PV1 else f.optional_text("formula")
    return Equation(
        name=name,
        formula=formula or "",
        domain=f.optional_text("domain"),
        codomain=f.optional_text("codomain"),
        invariants=f.texts("invariants"),
        preconditions=v2.texts("preconditions"),
        postconditions=v2.texts("postconditions"),
        lean_theorem=v2.optional_text("lean_theorem"),
        float_tolerance=v2.number("float_tolerance"),
        assumes=v2.take("assumes"),
        guarantees=v2.take("guarantees"),
        **f.located(),
    )
