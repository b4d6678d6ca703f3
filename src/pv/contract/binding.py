"""`binding.yaml`: which function carries out which equation, as the field declares it by hand."""

from __future__ import annotations

from dataclasses import dataclass

from pv.contract.fields import Fields
from pv.contract.located import Located
from pv.profile import Profile

STATUSES_V1 = ("implemented", "partial", "not_implemented")
STATUSES = (*STATUSES_V1, "pending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding(Located):
    """An equation and the function that is said to carry it out."""

    contract: str  # file name or stem
    equation: str
    status: str
    module_path: str | None
    function: str | None
    signature: str | None
    notes: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingRegistry(Located):
    """All bindings of a crate."""

    version: str
    target_crate: str
    bindings: tuple[Binding, ...]
    critical_path: tuple[str, ...]


def read_binding(f: Fields) -> BindingRegistry:
    """A binding registry, from its fields."""
    return BindingRegistry(
        version=f.text("version"),
        target_crate=f.text("target_crate"),
        bindings=f.children("bindings", _binding),
        critical_path=f.later(Profile.PV2).texts("critical_path"),
        **f.located(),
    )


def _binding(f: Fields) -> Binding:
    statuses = STATUSES_V1 if f.reading.profile is Profile.PV1 else STATUSES
    return Binding(
        contract=f.text("contract"),
        equation=f.text("equation"),
        status=f.choice("status", statuses, required=True) or "",
        module_path=f.optional_text("module_path"),
        function=f.optional_text("function"),
        signature=f.optional_text("signature"),
        notes=f.optional_text("notes"),
        **f.located(),
    )
