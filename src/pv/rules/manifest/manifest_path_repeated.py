"""A publish manifest lists one path twice.

Which of the two digests is meant cannot be said.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.artifacts import Other
from pv.rules.examples import MANIFEST_BASE, MANIFEST_FILES, edit
from pv.rules.manifest_files import manifest_files
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule
from pv.tree.nodes import Scalar


def _check(document: Other, around: Around) -> Iterator[Offence]:
    seen: set[str] = set()
    for file in manifest_files(document):
        path = file.get("path")
        if isinstance(path, Scalar):
            if path.text in seen:
                yield Offence(path.place, f"the path {path.text} is listed twice", "remove one of the two")
            seen.add(path.text)


_SECOND = MANIFEST_FILES.removeprefix("files:\n")

RULE = Rule(
    page=__doc__,
    id="PM-SHAPE-005",
    name="manifest-path-repeated",
    profiles=SINCE_PV2,
    bad=edit(MANIFEST_FILES, MANIFEST_FILES + _SECOND, base=MANIFEST_BASE),
    good=edit(MANIFEST_FILES, MANIFEST_FILES + _SECOND.replace("model", "other"), base=MANIFEST_BASE),
    check_document=_check,
)
