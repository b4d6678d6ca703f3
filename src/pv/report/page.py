"""A rule's page, for a terminal and for the docs."""

from __future__ import annotations

from pv.profile import Profile
from pv.rules.rule import Rule


def rule_page(rule: Rule) -> str:
    """The page of a rule as Markdown.

    Args:
        rule: the rule.
    """
    title, _, why = rule.page.strip().partition("\n")
    where = ", ".join(profile.label for profile in Profile if profile in rule.profiles)
    when = "; `pv lint` only, which looks at the files of the project" if rule.reads_project else ""
    kinds = ", contracts of kind kernel only" if rule.kernel_only else ""
    parts = [
        f"## {rule.id}: {rule.name}",
        title,
        f"*{rule.severity.value}; profiles {where}{kinds}{when}*",
        why.strip(),
    ]
    if rule.bad.shown and rule.bad.shown != rule.good.shown:
        parts += ["Found:", _block(rule.bad.shown)]
        parts += ["Not found:", _block(rule.good.shown)] if rule.good.shown else []
    return "\n\n".join(parts) + "\n"


def _block(text: str) -> str:
    return f"```yaml\n{text}\n```"
