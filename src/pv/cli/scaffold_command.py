"""pv scaffold."""

from __future__ import annotations

import re
import sys
from datetime import date
from pathlib import Path

import click

from pv.corpus import project_root
from pv.errors import EXIT_OK
from pv.survey.errors import AlreadyThere, NameWrong
from pv.survey.scaffold import scaffold

_NAME = re.compile(r"\w[\w.-]*")


@click.command("scaffold")
@click.argument("name")
@click.option(
    "--tests",
    multiple=True,
    metavar="PATH[::TEST]",
    help="A file or folder of pytest tests, or one test; each becomes a falsifier. Else tests/.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to; else contracts/NAME.yaml.")
def scaffold_command(name: str, tests: tuple[str, ...], output: Path | None) -> int:
    """Write a contract whose falsifiers are tests that there are, to be filled in.

    It is invalid until somebody has said what each test claims, and which defect must make it fail.

    \b
    Example:
      pv scaffold slug-v1 --tests tests/test_slug.py::test_words --tests tests/test_unicode.py
    """
    name = name.removesuffix(".yaml")
    if not _NAME.fullmatch(name):
        raise NameWrong(name=name)
    root = project_root(Path.cwd())
    path = output or root / "contracts" / f"{name}.yaml"
    if path.exists():
        raise AlreadyThere(path=str(path))
    text = scaffold(name, tests or (str(root / "tests"),), root, date.today())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(path)
    print(
        f"{text.count('runner:')} falsifier(s); pv validate {path} says what is to be filled in",
        file=sys.stderr,
    )
    return EXIT_OK
