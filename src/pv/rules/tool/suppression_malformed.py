"""A suppression names no rule that there is, or gives no reason.

Nobody can decide later whether it may go. It covers nothing until both are there.
"""

from __future__ import annotations

from pv.rules.examples import edit
from pv.rules.rule import STRICT, Rule

RULE = Rule(
    page=__doc__,
    id="SUPPRESS-002",
    name="suppression-malformed",
    profiles=STRICT,
    bad=edit("type: invariant", "type: invariant # pv: allow STRICT-002"),
    good=edit(
        "if_fails: the validation loss is measured on text that was trained on",
        'if_fails: "" # pv: allow if-fails-empty because the rule says it',
    ),
)
