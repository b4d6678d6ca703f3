"""What a plain scalar means, by the core schema of YAML 1.2 (section 10.3): no yes/no, no dates, no octal by a zero.

The field decides whether to ask: `version: 1.0` is text where text is wanted and a number where a number is.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from pv.tree.nodes import Block, Items, Node, Scalar

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = {
    ".inf": "inf", ".Inf": "inf", ".INF": "inf", "+.inf": "inf", "+.Inf": "inf", "+.INF": "inf",
    "-.inf": "-inf", "-.Inf": "-inf", "-.INF": "-inf", ".nan": "nan", ".NaN": "nan", ".NAN": "nan",
}  # fmt: skip
_MAX_DIGITS = 400  # of a whole number: Python refuses to read endless ones, and no claim has them


def is_null(node: Node) -> bool:
    """Whether the node is nothing: an empty value, `~` or `null`, without quotes."""
    return isinstance(node, Scalar) and node.plain and node.text in _NULL


def truth(node: Scalar) -> bool | None:
    """True or false where the text says so in lower case, which is what the field accepts; None elsewhere."""
    return {"true": True, "false": False}.get(node.text) if node.plain else None


def number(node: Scalar) -> int | float | None:
    """The number that a plain scalar is; None where it is none."""
    text = node.text
    if not node.plain or len(text) > _MAX_DIGITS:
        return None
    if _DECIMAL.fullmatch(text):
        return _held(int(text))
    if _OTHER_BASE.fullmatch(text):
        return _held(int(text, 0))
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(_NOT_FINITE[text]) if text in _NOT_FINITE else None


def _held(value: int) -> int | None:
    """A whole number that a float can hold too, because limits are compared with floats; None for a larger one."""
    return value if abs(value) <= sys.float_info.max else None


def plain_value(node: Node) -> Any:
    """The node as Python's own values, each scalar by the core schema; of a key that stands twice the last counts."""
    if isinstance(node, Items):
        return [plain_value(item) for item in node.items]
    if isinstance(node, Block):
        return {entry.key.text: plain_value(entry.value) for entry in node.entries}
    if not node.plain:
        return node.text
    if node.text in _NULL:
        return None
    if node.text in _TRUE or node.text in _FALSE:
        return node.text in _TRUE
    value = number(node)
    return node.text if value is None else value
