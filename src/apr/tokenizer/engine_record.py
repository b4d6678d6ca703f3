"""Which engine made ids, as a value that a manifest keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecord:
    """An engine, and how much of what it encoded was compared with the reference."""

    name: str
    version: str
    audited_share: float  # of the documents; 1.0 where the reference itself encoded them
