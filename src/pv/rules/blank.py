"""Whether something was said at all."""

from __future__ import annotations


def blank(text: str | None) -> bool:
    """Whether a text is absent, empty, or nothing but spaces."""
    return not (text or "").strip()
