"""The baseline holds a finding that is not there any more.

It would hide the next one like it. `pv lint DIR --write-baseline FILE` writes the baseline again, and it should
only shrink. A baseline is a file of its own, so this page has no example: the test of the rule writes one.
"""

from __future__ import annotations

from pv.finding import Severity
from pv.rules.examples import edit
from pv.rules.rule import EVERY, Rule

RULE = Rule(
    page=__doc__,
    id="BASELINE-001",
    name="baseline-stale",
    profiles=EVERY,
    severity=Severity.WARNING,
    bad=edit("type: invariant", "type: invariant"),
    good=edit("type: invariant", "type: invariant"),
)
