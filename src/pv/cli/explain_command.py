"""pv explain."""

from __future__ import annotations

import click

from pv.errors import NameUnknown
from pv.nearest import did_you_mean
from pv.report.page import rule_page
from pv.rules.table import all_rules, rules_by_name


@click.command("explain")
@click.argument("rule", required=False)
def explain_command(rule: str | None) -> None:
    """Print the page of a rule: what it finds, why that is bad, an example on either side.

    \b
    Example:
      pv explain STRICT-011
      pv explain control-missing
    """
    if rule is None:
        for known in all_rules():
            print(f"{known.id:<16} {known.name:<28} {known.title}")
        return
    by_name = {name.lower(): known for name, known in rules_by_name().items()}
    if rule.lower() not in by_name:
        raise NameUnknown(name=rule, nearest=did_you_mean(rule, rules_by_name()))
    print(rule_page(by_name[rule.lower()]), end="")
