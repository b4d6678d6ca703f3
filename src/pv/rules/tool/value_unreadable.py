"""A value cannot be what its field is.

A list where text is wanted, a missing field, a word that is none of the allowed: the file is no contract, and no other
rule looks at it.
"""

from __future__ import annotations

from pv.rules.examples import edit
from pv.rules.rule import EVERY, Rule

RULE = Rule(
    page=__doc__,
    id="PARSE-001",
    name="value-unreadable",
    profiles=EVERY,
    bad=edit("type: invariant", "type: invariance"),
    good=edit("type: invariant", "type: conservation"),
)
