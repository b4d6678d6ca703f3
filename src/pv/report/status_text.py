"""The status of contracts on a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from pv.errors import printable
from pv.report.words import SIGNS, age, kind, progress, reached, state, summary, why
from pv.status.claim import Claim
from pv.status.compute import ContractStatus, Report

_BAR = 20


def status_table(report: Report) -> str:
    """Contracts with their claims, milestones, and what is wrong.

    Args:
        report: as it was computed.
    """
    lines: list[str] = []
    for contract in report.contracts:
        lines += [*_contract(contract, report), ""]
    for milestone in report.milestones:
        filled = _BAR * len(milestone.done) // milestone.total if milestone.total else 0
        lines.append(f"{milestone.id}  [{'#' * filled}{'.' * (_BAR - filled)}]  {reached(milestone)}")
        lines += [f"  open     {name}" for name in milestone.open]
    if report.milestones:
        lines.append("")
    lines += [f"problem: {problem}" for problem in report.problems]
    return "\n".join([*map(printable, lines), summary(report)])


def _contract(contract: ContractStatus, report: Report) -> Iterator[str]:
    declared = f", declares {contract.declared.name}" if contract.declared is not None else ""
    yield f"{contract.stem}: {contract.level.name} ({progress(contract)}{declared})"
    width = max((len(claim.id) for claim in contract.claims), default=0)
    for claim in contract.claims:
        head = f"  {SIGNS[claim.state]} {claim.id:<{width}}  {kind(claim):<5}  {state(claim):<14}"
        yield f"{head}  {age(claim.ended, report.now):>6}  {why(claim)}".rstrip()
    for reason in contract.why_not_higher:
        yield f"  not higher: {reason}"


def status_markdown(report: Report) -> str:
    """The same as Markdown.

    Args:
        report: as it was computed.
    """
    lines = [
        summary(report) + ".",
        "",
        "| contract | status | survived | why not higher |",
        "|---|---|---|---|",
    ]
    for c in report.contracts:
        reasons = "; ".join(c.why_not_higher)
        lines.append(f"| {c.stem} | {c.level.name} | {progress(c)} | {_cell(reasons)} |")
    for c in report.contracts:
        lines += [
            "",
            f"## {c.stem}",
            "",
            _cell(c.title),
            "",
            "| claim | kind | state | age | |",
            "|---|---|---|---|---|",
        ]
        lines += [_markdown_row(claim, report) for claim in c.claims]
    if report.milestones:
        lines += ["", "## Milestones", "", "| milestone | survived | open |", "|---|---|---|"]
        lines += [f"| {_cell(m.id)} | {reached(m)} | {_cell(', '.join(m.open))} |" for m in report.milestones]
    if report.problems:
        lines += ["", "## Problems", "", *(f"- {_cell(problem)}" for problem in report.problems)]
    return "\n".join(lines)


def _markdown_row(claim: Claim, report: Report) -> str:
    cells = (claim.id, kind(claim), state(claim), age(claim.ended, report.now), why(claim))
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return printable(" ".join(text.replace("|", "\\|").replace("<", "&lt;").split()))
