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
    by_fold = {_fold(name): name for name in TOP_LEVEL}
    found = by_fold.get(_fold(key))
    return None if found == key else found


def _fold(name: str) -> str:
    """The name without case, separators and plural endings."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"(es|s)$", "", letters)
