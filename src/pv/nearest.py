"""The accepted name that somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, accepted: Iterable[str]) -> str | None:
    """The accepted name that is most like `name`; None when none is like it.

    Args:
        name: what was written.
        accepted: what could have been.
    """
    from difflib import get_close_matches  # 4 ms, and needed only when something is wrong

    folded = {_fold(other): other for other in accepted}
    found = get_close_matches(_fold(name), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else None


def did_you_mean(name: str, accepted: Iterable[str]) -> str:
    """`; did you mean X` for a sentence, or nothing."""
    found = nearest(name, accepted)
    return f"; did you mean {found}" if found else ""


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")
