"""What a contract says of files that are no contracts: globs of subjects, and tests by node id."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath


def is_relative(glob: str) -> bool:
    """Whether a glob stays inside the folder that it starts from.

    Args:
        glob: such as "src/**/*.py".
    """
    path = PurePosixPath(glob)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def matches(root: Path, glob: str) -> bool:
    """Whether a glob matches at least one file.

    Args:
        root: the root of the project.
        glob: relative to it.
    """
    try:
        return any(path.is_file() for path in root.glob(glob))
    except (ValueError, NotImplementedError, OSError):  # no pattern at all
        return False


def missing_of(root: Path, node_id: str) -> str | None:
    """What of a test's node id is not there, as a clause; None when all of it is, or its file cannot be judged.

    Args:
        root: the root of the project.
        node_id: "tests/test_x.py::TestY::test_z[parameter]".
    """
    file, *names = node_id.partition("[")[0].split("::")
    path = root / file
    if not path.is_file():
        return f"there is no file {file} below {root.name or 'the root'}"
    found = _defined(path, path.stat().st_mtime_ns)
    if found is None or "::".join(names) in found:
        return None
    if any(name.startswith("Test") for name in names[:1]) and names[0] in found and len(names) > 1:
        return None  # the class may inherit it
    return f"{file} defines no {'::'.join(names)}"


@lru_cache(maxsize=256)
def _defined(path: Path, changed_ns: int) -> frozenset[str] | None:
    """Names of functions and classes of a file as node ids spell them; None when it is no Python that we can read."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return None
    return frozenset(_names(tree.body, ""))


def _names(body: list[ast.stmt], within: str) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield within + statement.name
        if isinstance(statement, ast.ClassDef):
            yield from _names(statement.body, f"{within}{statement.name}::")
        if isinstance(statement, ast.ImportFrom):
            yield from (within + (alias.asname or alias.name) for alias in statement.names)
        if isinstance(statement, ast.Assign):
            yield from (within + target.id for target in statement.targets if isinstance(target, ast.Name))
        if isinstance(statement, ast.If | ast.Try):
            yield from _names(statement.body, within)
