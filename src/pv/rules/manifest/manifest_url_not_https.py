"""A `url` is not an https address.

What is fetched without a certificate can be changed on its way, and a path is no address.
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
        url = file.get("url")
        if isinstance(url, Scalar) and url.text and not _HTTPS.fullmatch(url.text):
            yield Offence(url.place, f"{url.text!r} is no https address", "write https://host/path")


_HTTPS = re.compile(r"https://[^/\s]+/\S+")


RULE = Rule(
    page=__doc__,
    id="PM-SHAPE-004",
    name="manifest-url-not-https",
    profiles=SINCE_PV2,
    bad=edit("url: https:", "url: http:", base=MANIFEST_BASE),
    good=edit(
        "url: https://example.org/model.apr",
        "url: https://example.org:8443/a/model.apr?x=1",
        base=MANIFEST_BASE,
    ),
    check_document=_check,
)
