"""`version` is not made of two or three numbers.

A change asks for a version that is higher by one part, and of another spelling nobody can say whether it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pv.contract.contract import Contract
from pv.rules.blank import blank
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Around, Offence, Rule

_VERSION = re.compile(r"v?\d+\.\d+(\.\d+)?")


def _check(contract: Contract, around: Around) -> Iterator[Offence]:
    version = contract.metadata.version
    if not blank(version) and not _VERSION.fullmatch(version.strip()):  # an empty one: SCHEMA-002
        says = f"the version is {version!r}, which cannot be compared with another"
        yield Offence(contract.metadata.where("version"), says, "write MAJOR.MINOR.PATCH")


RULE = Rule(
    page=__doc__,
    id="STRICT-036",
    name="version-malformed",
    profiles=STRICT,
    bad=edit('version: "1.0.0"', 'version: "1.0.0-draft"'),
    good=edit('version: "1.0.0"', "version: 1.0"),
    check=_check,
)
