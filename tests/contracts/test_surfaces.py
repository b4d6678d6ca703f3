"""FALSIFY-APR-PRETRAIN-INIT-007: what the command tree offers is on the reference page and in tests of both kinds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import click
import pytest

from apr.cli.main import apr

TESTS = Path(__file__).parents[1]
REFERENCE = TESTS.parent / "docs" / "reference.md"
# Tests that go through the command line, in this process or in one of its own.
THROUGH_THE_COMMAND = re.compile(r"\b(run_apr|call|entry|invoke|refused|pretrain)\(")


def commands(group: click.Group = apr, path: str = "apr") -> Iterator[tuple[str, click.Command]]:
    """Every command that can be carried out, with its full name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{path} {name} is listed and not there"
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


OPTIONS = [
    (name, parameter)
    for name, command in commands()
    for parameter in command.params
    if isinstance(parameter, click.Option)
]


@lru_cache(maxsize=1)
def sources() -> tuple[tuple[bool, str], ...]:
    """The text of every test of the program, and whether it stands in tests/e2e or goes through the command line."""
    own = {TESTS / "pv", Path(__file__)}
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        if not own & {path, *path.parents}:
            text = path.read_text(encoding="utf-8")
            found.append((TESTS / "e2e" in path.parents or bool(THROUGH_THE_COMMAND.search(text)), text))
    return tuple(found)


def spelled(option: click.Option) -> re.Pattern[str]:
    """Any spelling of an option, as a whole word."""
    words = "|".join(re.escape(word) for word in (*option.opts, *option.secondary_opts))
    return re.compile(rf"(?<![\w-])({words})(?![\w-])")


def section(name: str) -> str:
    """What the reference page says of a command."""
    found = re.search(
        rf"^#+ `?{re.escape(name)}`?\n(.*?)(?=^#+ |\Z)", REFERENCE.read_text(), re.DOTALL | re.MULTILINE
    )
    assert found, f"{name} is not on the reference page"
    return found[1]


def missing() -> Iterator[str]:
    for name, option in OPTIONS:
        pattern, flag = spelled(option), option.opts[-1]
        value = re.compile(rf"\b{option.name}\s*=|[\"']{option.name}[\"']")
        if not pattern.search(section(name)):
            yield f"{name} {flag} is not on the reference page"
        if not any(pattern.search(text) or value.search(text) for _, text in sources()):
            yield f"{name} {flag} is in no test of its part"
        if not any(pattern.search(text) for is_through, text in sources() if is_through):
            yield f"{name} {flag} is in no test through the command line"


@pytest.mark.claim
def test_falsify_apr_pretrain_init_007_every_option_is_told_and_tested() -> None:
    assert len(OPTIONS) > 100, "the command tree was not walked"
    found = list(missing())
    assert not found, "; ".join(found)


@pytest.mark.parametrize(
    ("name", "flag"), [("apr pretrain", "--init"), ("apr tokenize encode-corpus", "--corpus")]
)
def test_the_walk_comes_to(name: str, flag: str) -> None:
    assert any(each == name and flag in option.opts for each, option in OPTIONS)
