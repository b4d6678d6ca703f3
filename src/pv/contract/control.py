"""`control:` the defect that must make a falsifier fail, or the falsifier shows nothing.

    control: {patch: "package.module:function", returns: false}          # the function gives this, whatever it gets
    control: {patch: "package.module:LIMIT", value: 0}                   # the name is this
    control: {patch: "package.module:Class.method", with: "tests.plants:off_by_one"}   # original -> replacement
    control: {patch: "package.module:function", raises: "builtins:OSError"}
    control: {edit: "src/split.c", replace: "a < b", by: "a <= b"}       # in a copy of the project; any language
    control: {env: {SPLIT_IS_BROKEN: "1"}}                               # where the program or the test plants it

`sees` (optional) is searched, as a regular expression, in what the failing falsifier says, so that it fails for this
defect and not for another. A list of controls means that each of them must make it fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pv.contract.fields import Fields
from pv.contract.located import Located
from pv.tree.nodes import Block, Items, Scalar
from pv.tree.scalars import is_null, plain_value

CONTROLS = ("patch", "edit", "env")
REPLACEMENTS = ("with", "returns", "value", "raises")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What takes the place of a patched name: one of REPLACEMENTS, and what it holds."""

    how: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A text of a file that another takes the place of, in a copy of the project."""

    path: str
    replace: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Control(Located):
    """A defect to plant; exactly one of `patch`, `edit` and `env` is given."""

    patch: str | None  # "package.module:attribute", where the program looks it up
    replacement: Replacement | None  # of `patch`
    edit: Edit | None
    env: Mapping[str, str]
    sees: str | None


def read_controls(f: Fields) -> tuple[Control, ...]:
    """The controls of a test: none, one, or a list.

    Args:
        f: the fields of the test.
    """
    node = f.take("control")
    if node is None or is_null(node):
        return ()
    if isinstance(node, Items):
        path = f.path("control")
        return tuple(_control(f.within_of(item, f"{path}[{i}]")) for i, item in enumerate(node.items))
    return (_control(f.within_of(node, f.path("control"))),)


def _control(f: Fields) -> Control:
    named = [kind for kind in CONTROLS if (node := f.node.get(kind)) is not None and not is_null(node)]
    if len(named) != 1:
        told = "names none" if not named else f"names {' and '.join(named)}"
        f.problem(f.node.place, f"{f.within} {told}, and must name one of {', '.join(CONTROLS)}")
    patch = f.optional_text("patch") if named == ["patch"] else None
    return Control(
        patch=patch,
        replacement=_replacement(f) if named == ["patch"] else None,
        edit=_edit(f) if named == ["edit"] else None,
        env=_env(f) if named == ["env"] else {},
        sees=f.optional_text("sees"),
        **f.located(),
    )


def _replacement(f: Fields) -> Replacement | None:
    taken = {how: node for how in REPLACEMENTS if (node := f.take(how)) is not None}
    if len(taken) != 1:
        told = "says none" if not taken else f"says {' and '.join(taken)}"
        f.problem(f.node.place, f"{f.within} {told}, and a patch must say one of {', '.join(REPLACEMENTS)}")
        return None
    ((how, node),) = taken.items()
    if how in ("with", "raises"):
        return Replacement(how=how, value=f.as_text(node, f.path(how)))
    return Replacement(how=how, value=plain_value(node))


def _edit(f: Fields) -> Edit:
    return Edit(path=f.text("edit"), replace=f.text("replace"), by=f.text("by"))


def _env(f: Fields) -> dict[str, str]:
    node = f.take("env")
    if not isinstance(node, Block):
        f.problem(f.place_of("env"), f"{f.path('env')} must be a mapping from names to texts")
        return {}
    path = f.path("env")
    return {
        entry.key.text: f.as_text(entry.value, f"{path}.{entry.key.text}")
        for entry in node.entries
        if isinstance(entry.key, Scalar)
    }
