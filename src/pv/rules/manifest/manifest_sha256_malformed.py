"""A `sha256` is not 64 digits of base 16 in lower case.

It equals no digest that a program computes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pv.artifacts import Other
from pv.rules.examples import MANIFEST_BASE, edit
from pv.rules.manifest_files import manifest_files
from pv.rules.rule import SINCE_PV2, Around, Offence, Rule
from pv.tree.nodes import Scalar


def _check(document: Other, around: Around) -> Iterator[Offence]:
    for file in manifest_files(document):
        digest = file.get("sha256")
        if isinstance(digest, Scalar) and digest.text and not _SHA256.fullmatch(digest.text):
            yield Offence(
                digest.place, f"{digest.text!r} is no sha256", "write the 64 digits that sha256sum prints"
            )


_SHA256 = re.compile(r"[0-9a-f]{64}")


RULE = Rule(
    page=__doc__,
    id="PM-SHAPE-002",
    name="manifest-sha256-malformed",
    profiles=SINCE_PV2,
    bad=edit(
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        base=MANIFEST_BASE,
    ),
    good=edit(
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "0" * 64, base=MANIFEST_BASE
    ),
    check_document=_check,
)
