"""pv validate."""

from __future__ import annotations

import os
import sys
from datetime import date
from pathlib import Path

import click

from pv.artifacts import Other
from pv.cli.options import profile_option
from pv.errors import EXIT_NO, EXIT_OK, NoContracts, PathMissing, PathUnreadable, PvError, shown
from pv.profile import Profile
from pv.report.text import one_line
from pv.review import Judged, review

_NAMES = {
    "binding": "Binding registry",
    "publish-manifest": "Publish manifest",
    "milestones": "Milestones",
    "waivers": "Waivers",
    "external": "External corpus",
}
_UNREAD = ("PARSE-001", "PARSE-002")


@click.command("validate")
@click.argument("path", type=click.Path(path_type=Path))
@profile_option
def validate_command(path: Path, profile: str) -> int:
    """Judge one contract, or every one in a folder, by schema and rules.

    Exit code 0: valid; 1: not; 2: there was nothing to judge.

    \b
    Example:
      pv validate contracts/tokens-v1.yaml
    """
    chosen = Profile.of(profile)
    try:
        if chosen is Profile.PV1 and os.path.isdir(path):
            raise PathUnreadable(path=str(path), reason="Is a directory")
        judged = review(path, chosen, date.today())
    except (PathMissing, PathUnreadable, NoContracts) as error:
        return _nothing(error, chosen)
    if not path.is_dir():
        return _one(judged[0], chosen)
    return _folder(judged, path, chosen)


def _nothing(error: PvError, profile: Profile) -> int:
    if profile is Profile.PV1:  # the first generation answers with a plain no
        print(f"error: Failed to read contract file: {error}", file=sys.stderr)
        return EXIT_NO
    print(f"decline: {error}", file=sys.stderr)
    return error.exit_code


def _one(judged: Judged, profile: Profile) -> int:
    """Print the verdict of a file; returns the exit code."""
    unread = [finding for finding in judged.findings if finding.rule in _UNREAD]
    if unread:
        for finding in unread:
            place = f"{shown(finding.path)}:{finding.place.line}:{finding.place.column}"
            print(
                f"error: Failed to parse YAML: {place}: {shown(finding.message)}; {finding.fix}",
                file=sys.stderr,
            )
        return EXIT_NO
    for finding in judged.findings:
        if finding.counts:
            print(f"[{finding.severity.tag}] {one_line(finding)}")
    print(f"\n{judged.errors} error(s), {judged.warnings} warning(s)")
    if judged.errors:
        sys.stdout.flush()  # so that a terminal shows the verdict after what it rests on
        prefix = "reject" if profile is Profile.PV2 else "error"
        print(f"{prefix}: Contract has {judged.errors} validation error(s)", file=sys.stderr)
        return EXIT_NO
    print(f"{_what(judged, profile)} is valid.")
    return EXIT_OK


def _what(judged: Judged, profile: Profile) -> str:
    if isinstance(judged.artifact, Other) and profile is not Profile.PV1:
        return f"{_NAMES[judged.artifact.shape]} (kind: {judged.artifact.shape})"
    return "Contract"


def _folder(judged: tuple[Judged, ...], path: Path, profile: Profile) -> int:
    failed = 0
    for one in judged:
        print(f"== {shown(one.path)}", flush=True)
        failed += _one(one, profile) != EXIT_OK
    print(f"{len(judged)} artifact(s) under {shown(path)}, {failed} failed")
    return EXIT_NO if failed else EXIT_OK
