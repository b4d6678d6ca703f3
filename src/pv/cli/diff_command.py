"""pv diff."""

from __future__ import annotations

from pathlib import Path

import click

from pv.change.compare import compare_all
from pv.change.compare_milestones import compare_milestones
from pv.change.errors import NotComparable
from pv.change.version import bump_of, follows, next_version
from pv.cli.options import format_option
from pv.contract.contract import Contract
from pv.errors import EXIT_NO, EXIT_OK
from pv.report.changes import Versions, diff_json, diff_text
from pv.run.reading import Read, read_contracts


@click.command("diff")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@format_option("text", "json")
def diff_command(old: Path, new: Path, output_format: str) -> int:
    """Compare what two contracts, or two folders of them, claim: what is weaker, stronger, reworded.

    Formatting, comments and order mean nothing; milestones count too. Exit code 0: nothing is weaker, and the version
    follows the changes; 1: something is weaker, or claims something else, or the version does not follow; 2: one side
    cannot be read.

    \b
    Example:
      pv diff old/tokens-v1.yaml contracts/tokens-v1.yaml
    """
    was, now = read_contracts(old), read_contracts(new)
    before, after = _contracts(was), _contracts(now)
    if old.is_file() and new.is_file():  # two files are one contract, whatever they are called
        (only,), (stem,) = before.values(), after
        before = {stem: only}
    changes = (*compare_all(before, after), *compare_milestones(was.artifacts, now.artifacts))
    versions = {
        stem: _versions(before[stem], after[stem], bump_of(c for c in changes if c.contract == stem))
        for stem in sorted({*before} & {*after})
    }
    is_weaker = any(change.must_be_waived for change in changes)
    code = EXIT_NO if is_weaker or not all(held.follows for held in versions.values()) else EXIT_OK
    if output_format == "json":
        print(diff_json(changes, versions, code))
    else:
        print(diff_text(changes, versions))
    return code


def _contracts(read: Read) -> dict[str, Contract]:
    for name, reason in read.unread:
        raise NotComparable(path=name, reason=reason)
    return {contract.stem: contract for contract in read.contracts}


def _versions(old: Contract, new: Contract, bump: str) -> Versions:
    before, after = old.metadata.version, new.metadata.version
    return Versions(
        old=before,
        new=after,
        bump=bump,
        least=next_version(before, bump),
        follows=bump == "none" or follows(before, after, bump),
    )
