"""Keys at the top of a contract that somebody meant to be one of the schema's."""

from __future__ import annotations

import re

# The names that the field's schema has at the top.
TOP_LEVEL = (
    "metadata", "equations", "proof_obligations", "kernel_structure", "simd_dispatch", "enforcement",
    "falsification_tests", "kani_harnesses", "qa_gate", "verification_summary", "type_invariants", "coq_spec", "beat",
    "stories",
)  # fmt: skip


def near_miss(key: str) -> str | None:
    """The schema's name that a key differs from by case, separators or a plural only; None for any other key.

    Args:
        key: a key that the schema does not have.
    """
    if key in TOP_LEVEL:
        return None
    return next((name for name in TOP_LEVEL if _forms(name) & _forms(key)), None)


def _forms(name: str) -> set[str]:
    """The name without case and separators, as it is and as singulars that it may be the plural of."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    ends = (("s", ""), ("es", ""), ("ies", "y"))
    return {letters, *(letters.removesuffix(end) + put for end, put in ends if letters.endswith(end))}
