"""What a contract says of files that are no contracts: globs of subjects, and tests by node id."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

_ROOTS = ("", "src", "tests")  # where modules are looked for


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


def text_of(root: Path, file: str) -> str | None:
    """The text of a file of the project; None where there is none.

    Args:
        root: the root of the project.
        file: relative to it.
    """
    try:
        return (root / file).read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):
        return None


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
    if f"{names[0]}::*" in found:
        return None  # the class may inherit it
    return f"{file} defines no {'::'.join(names)}"


def target_missing(root: Path, target: str) -> bool:
    """Whether the project lacks a module that is named, or what is named in it; False where only running it would tell.

    Args:
        root: the root of the project.
        target: "package.module:name" or "package.module:Class.name".
    """
    module, _, attribute = target.partition(":")
    names = attribute.split(".")
    for folder in _ROOTS:
        for path in (f"{module.replace('.', '/')}.py", f"{module.replace('.', '/')}/__init__.py"):
            file = root / folder / path
            if file.is_file():
                found = _defined(file, file.stat().st_mtime_ns)
                if found is None or "__getattr__" in found or "*" in found:
                    return False
                return "::".join(names) not in found and f"{names[0]}::*" not in found
    return _is_no_part_of_a_package(root, module)


def _is_no_part_of_a_package(root: Path, module: str) -> bool:
    """Whether a module is named within a package of the project that has nothing of that name, compiled or not."""
    top, *below = module.split(".")
    for folder in _ROOTS:
        if below and (root / folder / top / "__init__.py").is_file():
            place = (root / folder).joinpath(top, *below)
            is_there = place.is_dir() or any(place.parent.glob(f"{place.name}.*"))
            return place.parent.is_dir() and not is_there
    return False


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
            if statement.bases:
                yield f"{within}{statement.name}::*"  # anything may be inherited
            yield from _names(statement.body, f"{within}{statement.name}::")
        if isinstance(statement, ast.Import):
            yield from (within + (alias.asname or alias.name.partition(".")[0]) for alias in statement.names)
        if isinstance(statement, ast.ImportFrom):
            yield from (within + (alias.asname or alias.name) for alias in statement.names)
        if isinstance(statement, ast.Assign):
            yield from (
                within + name.id
                for t in statement.targets
                for name in ast.walk(t)
                if isinstance(name, ast.Name)
            )
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield within + statement.target.id
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _names(statement.body, within)
            yield from _names(getattr(statement, "orelse", []), within)
