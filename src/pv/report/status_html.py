"""The status of contracts as one HTML page, without scripts and without a second file, to hang on a wall."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from pv.report.words import SIGNS, age, kind, progress, reached, state, summary, why
from pv.status.claim import Claim, State
from pv.status.compute import ContractStatus, Report
from pv.status.level import Level
from pv.status.milestones import Milestone

_STYLE = Path(__file__).with_name("wall.css")


def status_html(report: Report, name: str) -> str:
    """The page.

    Args:
        report: as it was computed.
        name: of the project.
    """
    body = "\n".join(
        [
            f"<h1>{escape(name)}: what survives</h1>",
            f"<p>{escape(summary(report))}, computed {report.now:%Y-%m-%d %H:%M} UTC from recorded runs.</p>",
            *_problems(report),
            *map(_milestone, report.milestones),
            *(_contract(contract, report) for contract in report.contracts),
            _key(),
        ]
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(name)}</title>'
    style = f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}{style}</head>\n<body>\n{body}\n</body></html>'


def _problems(report: Report) -> Iterator[str]:
    if report.problems:
        rows = "".join(f'<p class="not"><b>{escape(problem)}</b></p>' for problem in report.problems)
        yield f'<section class="problems"><h2>The answer is no</h2>{rows}</section>'


def _milestone(milestone: Milestone) -> str:
    share = 100 * len(milestone.done) / milestone.total if milestone.total else 0
    still = ", ".join((*milestone.open, *milestone.unknown))
    rest = f'<p class="not"><b>Open:</b> {escape(still)}</p>' if still else ""
    return (
        f'<section><h2>{escape(milestone.id)}</h2><span class="level">{reached(milestone)}</span>'
        f'<p class="title">{escape(milestone.title)}</p><div class="bar"><i style="width:{share:.1f}%"></i></div>'
        f"{rest}</section>"
    )


def _contract(contract: ContractStatus, report: Report) -> str:
    reasons = "".join(f'<p class="not"><b>Not higher:</b> {escape(r)}</p>' for r in contract.why_not_higher)
    rows = "".join(_row(claim, report) for claim in contract.claims)
    level = contract.level.name
    return (
        f'<section><h2>{escape(contract.stem)}</h2><span class="level {level}">{_spoken(contract.level)}</span>'
        f'<p class="title">{escape(contract.title)}</p><div class="tiles">'
        f"{''.join(map(_tile, contract.claims))}</div>{reasons}"
        f"<details><summary>{progress(contract)} claims have survived</summary><table>{rows}</table></details>"
        "</section>"
    )


def _spoken(level: Level) -> str:
    return level.name.replace("_", " ")


def _tile(claim: Claim) -> str:
    live = " live" if claim.is_live else ""
    title = escape(f"{claim.id}: {state(claim)}, {why(claim)}", quote=True)
    return (
        f'<span class="tile {_class(claim.state)}{live}" title="{title}">{escape(SIGNS[claim.state])}</span>'
    )


def _row(claim: Claim, report: Report) -> str:
    cells = (claim.id, kind(claim), state(claim), age(claim.ended, report.now), why(claim))
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _class(held: State) -> str:
    return held.value.replace(" ", "-")


def _key() -> str:
    signs = "".join(
        f'<span><span class="tile {_class(held)}">{escape(sign)}</span>{held.value}</span>'
        for held, sign in SIGNS.items()
    )
    return f'<div class="key">{signs}<span><span class="tile live"></span>live: on the real artifact</span></div>'
