"""The file is no YAML document that a contract can be.

It does not parse, is not UTF-8, holds two documents, or goes beyond a limit: 1 MiB, 40 levels, 50,000 values with all
aliases written out. Tags mean nothing, and `<<` is a key like any other, as in YAML 1.2.
"""

from __future__ import annotations

from pv.rules.examples import edit
from pv.rules.rule import EVERY, Rule

RULE = Rule(
    page=__doc__,
    id="PARSE-002",
    name="yaml-unreadable",
    profiles=EVERY,
    bad=edit("formula: train & val = {}", "formula: *other"),
    good=edit("formula: train & val = {}", "formula: &other train"),
)
