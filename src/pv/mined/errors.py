"""Errors of mining claims from a run, and of judging a run by them."""

from __future__ import annotations

from dataclasses import dataclass

from pv.errors import PvError


@dataclass(kw_only=True, eq=False)
class NoMetrics(PvError):
    """The folder holds nothing that a run logged line by line, and no records.

    Claims are mined from metrics.jsonl, from another file of JSON lines, or from .json records, one observation
    each.
    """

    id = "PV504"
    text = "{path} holds no metrics"
    help = "name a file of JSON lines, a folder with metrics.jsonl, or a folder of .json records"
    path: str


@dataclass(kw_only=True, eq=False)
class SeveralMetrics(PvError):
    """The folder holds several files of JSON lines, and none has the name that decides.

    Two logs are two runs, or two parts of one; which of them is meant cannot be guessed.
    """

    id = "PV505"
    text = "{path} holds {count} files of JSON lines, and none of them is metrics.jsonl"
    help = "name one of them: {names}"
    path: str
    count: int
    names: str


@dataclass(kw_only=True, eq=False)
class RecordWrong(PvError):
    """A line, or a record of its own, is not one JSON object.

    A record is an object whose keys stand once, in UTF-8. What cannot be read cannot be passed over: it might
    refute a claim.
    """

    id = "PV506"
    text = "{place} is no record of a run ({reason})"
    help = "correct it or take it out; a run that was killed may have left its last line unfinished"
    place: str
    reason: str


@dataclass(kw_only=True, eq=False)
class RunEmpty(PvError):
    """The file holds no record, so that nothing can be said of the run.

    A run that logged nothing refutes nothing, and that is no pass.
    """

    id = "PV507"
    text = "{path} holds no record"
    help = "name the metrics of a run that has made steps"
    path: str


@dataclass(kw_only=True, eq=False)
class NothingMined(PvError):
    """Too few records bear a number for any claim.

    What holds on a handful of records holds by chance: two numbers rise in every second run, twenty in none.
    """

    id = "PV508"
    text = "{path} has {records} record(s), and no field is a number on {least} of them"
    help = "name a longer run, or ask for less with --min-lines"
    path: str
    records: int
    least: int


@dataclass(kw_only=True, eq=False)
class ClaimUnread(PvError):
    """The text is none of the claims that pv can judge a run by.

    A claim is one line, as `pv infer RUN --format table` prints it; a field with blanks in its name stands in
    double quotes.
    """

    id = "PV509"
    text = "{claim} is no claim that a run can be judged by"
    help = "write one of: {forms}"
    claim: str
    forms: str


@dataclass(kw_only=True, eq=False)
class ClaimUnborne(PvError):
    """Too few records of the run bear what the claim is about.

    The field is missing, null, or the run is short, so that the claim was not put to the test; zero is never a
    pass.
    """

    id = "PV510"
    text = (
        "{claim} is borne by {support} of {records} record(s) of {path}, and {least} are needed for an answer"
    )
    help = "name a longer run, or ask for less with --min-lines"
    claim: str
    support: int
    records: int
    path: str
    least: int


@dataclass(kw_only=True, eq=False)
class RunOutside(PvError):
    """The run lies outside of the project, where a contract of the project cannot watch it.

    Evidence names what it speaks about by a path from the root of the project, and a control edits a file of the
    project.
    """

    id = "PV511"
    text = "{path} lies outside of the project {root}"
    help = "copy its metrics into the project, or look at its claims with --format table"
    path: str
    root: str


@dataclass(kw_only=True, eq=False)
class SkeletonThere(PvError):
    """A file would be replaced in which somebody may have filled in claims.

    A skeleton is the beginning of a contract, and a second one would undo the review of the first.
    """

    id = "PV512"
    text = "{path} is there already"
    help = "name another, or replace it with --force"
    path: str
