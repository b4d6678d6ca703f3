"""pv explain."""

from __future__ import annotations

import click

from pv.errors import NameUnknown, known_errors
from pv.nearest import did_you_mean
from pv.report.error_page import error_name, error_page, error_title, errors_by_name
from pv.report.page import rule_page
from pv.rules.table import all_rules, rules_by_name


@click.command("explain")
@click.argument("name", required=False)
def explain_command(name: str | None) -> None:
    """Print the page of a rule or of an error: what it finds, why that is bad, what to write or to do.

    Without a name: all of them.

    \b
    Example:
      pv explain STRICT-011
      pv explain control-missing
      pv explain PV302
    """
    if name is None:
        _list()
        return
    rules = {known.lower(): rule for known, rule in rules_by_name().items()}
    errors = {known.lower(): kind for known, kind in errors_by_name().items()}
    asked = name.lower()
    if asked in rules:
        print(rule_page(rules[asked]), end="")
    elif asked in errors:
        print(error_page(errors[asked]), end="")
    else:
        raise NameUnknown(name=name, nearest=did_you_mean(name, {**rules_by_name(), **errors_by_name()}))


def _list() -> None:
    rows = [(rule.id, rule.name, rule.title) for rule in all_rules()]
    rows += [(kind.id, error_name(kind), error_title(kind)) for kind in known_errors().values()]
    for known, name, title in rows:
        print(f"{known:<16} {name:<28} {title}")
