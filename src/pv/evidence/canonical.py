"""Values as bytes that do not depend on formatting, and digests of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pv.tree.nodes import Block, Items, Scalar
from pv.tree.scalars import plain_value


def canonical(value: Any) -> bytes:
    """A value as JSON: keys in order, no spaces, UTF-8.

    Args:
        value: of JSON's own kinds.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def digest_of(value: Any) -> str:
    """The sha256 of a value's canonical form, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _number(value: float) -> Any:
    """A number as JSON has it; one that is not finite is no text of that name."""
    if not math.isfinite(value):
        return {"number": repr(value)}
    return int(value) if value.is_integer() else value


def plain(value: Any, without: frozenset[str] = frozenset()) -> Any:
    """A part of a contract as JSON's own kinds: what it means, and not where it stands or how it is spelled.

    Args:
        value: a part, or one of its values.
        without: names of fields of the part that are left out.
    """
    if isinstance(value, Block | Items | Scalar):
        return plain(plain_value(value))
    if is_dataclass(value):
        kept = [field.name for field in fields(value) if field.compare and field.name not in without]
        named = {name: plain(getattr(value, name)) for name in kept}
        return {
            "is": type(value).__name__,
            **{name: held for name, held in named.items() if held is not None},
        }
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    if isinstance(value, float):
        return _number(value)
    return value
