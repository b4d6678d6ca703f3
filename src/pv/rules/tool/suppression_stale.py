"""A suppression covers nothing.

`# pv: allow RULE because REASON` covers findings of that rule in its own line, or in the next one when it stands alone.
What it was there for is gone, and it would hide the next finding there.
"""

from __future__ import annotations

from pv.finding import Severity
from pv.rules.examples import edit
from pv.rules.rule import STRICT, Rule

RULE = Rule(
    page=__doc__,
    id="SUPPRESS-001",
    name="suppression-stale",
    profiles=STRICT,
    severity=Severity.WARNING,
    bad=edit("type: invariant", "type: invariant # pv: allow STRICT-002 because it has one now"),
    good=edit(
        "if_fails: the validation loss is measured on text that was trained on",
        'if_fails: "" # pv: allow SCHEMA-009 because the rule says it',
    ),
)
