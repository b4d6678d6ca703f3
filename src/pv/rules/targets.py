"""The spelling of what runners and controls name."""

from __future__ import annotations

import re

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_NODE_ID = re.compile(r"[^:\s][^:]*\.py(::[^:\s][^:]*)+", re.DOTALL)


def is_dotted(target: str) -> bool:
    """Whether a text names an attribute of a module: "package.module:name" or "package.module:Class.method"."""
    return _DOTTED.fullmatch(target) is not None


def is_node_id(target: str) -> bool:
    """Whether a text names a test: "tests/test_x.py::test_y", from the root of the project, with a parameter or not.

    A parameter may hold anything, so it is looked at no further than its bracket.
    """
    name = target.partition("[")[0]
    return _NODE_ID.fullmatch(name) is not None and not name.startswith("/") and ".." not in name.split("/")
