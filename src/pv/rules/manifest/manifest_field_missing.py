"""A publish manifest, or a file in it, lacks a field.

The ancestor reads the list of fields from a contract of its own, which is not part of a manifest; here they are
`model_id`, `version`, `provenance` and `files`, and of each file `path`, `url`, `sha256` and `size_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.artifacts import Other
from pv.rules.blank import blank
from pv.rules.examples import MANIFEST_BASE, edit
from pv.rules.manifest_files import manifest_files
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule
from pv.tree.nodes import Block, Node, Scalar
from pv.tree.scalars import is_null


def _check(document: Other, around: Around) -> Iterator[Offence]:
    yield from _missing(document.root, ("model_id", "version", "provenance"), "the manifest")
    for file in manifest_files(document):
        yield from _missing(file, ("path", "url", "sha256", "size_bytes"), "the file")


def _missing(node: Node, names: tuple[str, ...], what: str) -> Iterator[Offence]:
    for name in names:
        value = node.get(name) if isinstance(node, Block) else None
        if value is None or is_null(value) or (isinstance(value, Scalar) and blank(value.text)):
            yield Offence(node.place, f"{what} has no {name}", f"add {name}")


RULE = Rule(
    page=__doc__,
    id="PM-SHAPE-001",
    name="manifest-field-missing",
    profiles=SINCE_PV2,
    bad=edit("    path: model.apr\n" if False else 'version: "1.0.0"\n', "", base=MANIFEST_BASE),
    good=edit('version: "1.0.0"', "version: 1", base=MANIFEST_BASE),
    check_document=_check,
)
