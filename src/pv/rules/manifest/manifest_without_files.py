"""A publish manifest lists no files.

Nothing that was downloaded can be compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.artifacts import Other
from pv.rules.examples import MANIFEST_BASE, MANIFEST_FILES, Example, edit
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule
from pv.tree.nodes import Block, Items


def _check(document: Other, around: Around) -> Iterator[Offence]:
    files = document.root.get("files") if isinstance(document.root, Block) else None
    if not isinstance(files, Items) or not files.items:
        place = files.place if files is not None else document.root.place
        yield Offence(place, "the manifest lists no files", "list each with path, url, sha256 and size_bytes")


RULE = Rule(
    page=__doc__,
    id="PM-SHAPE-000",
    name="manifest-without-files",
    profiles=SINCE_PV2,
    bad=Example(base=MANIFEST_BASE, changes=((MANIFEST_FILES, "files: []\n"),)),
    good=edit("path: model.apr", "path: other.apr", base=MANIFEST_BASE),
    check_document=_check,
)
