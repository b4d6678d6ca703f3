"""A `size_bytes` is not a whole number above 0.

A cut download cannot be told by its length.
"""

from __future__ import annotations

from collections.abc import Iterator

from pv.artifacts import Other
from pv.rules.examples import MANIFEST_BASE, edit
from pv.rules.manifest_files import manifest_files
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule
from pv.tree.nodes import Scalar
from pv.tree.scalars import is_null, number


def _check(document: Other, around: Around) -> Iterator[Offence]:
    for file in manifest_files(document):
        size = file.get("size_bytes")
        value = number(size) if isinstance(size, Scalar) else None
        if size is not None and not is_null(size) and not (isinstance(value, int) and value > 0):
            yield Offence(size.place, "size_bytes is not a whole number above 0", "write what `wc -c` prints")


RULE = Rule(
    page=__doc__,
    id="PM-SHAPE-003",
    name="manifest-size-not-positive",
    profiles=SINCE_PV2,
    bad=edit("size_bytes: 1024", "size_bytes: 0", base=MANIFEST_BASE),
    good=edit("size_bytes: 1024", "size_bytes: 1", base=MANIFEST_BASE),
    check_document=_check,
)
