"""Find what holds throughout a run: propose claims of every kind, and keep those that no record refutes.

The kinds are those that the field mines from healthy traces (Daikon, TrainCheck). What follows from another claim of
the same field is left out, because each claim is to be read by a person.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from itertools import combinations

from pv.mined.claim import Claim, close
from pv.mined.each_record import Constant, Finite, NeverNegative, NeverNull, Within
from pv.mined.run import ABSENT, Number, Run, is_finite, is_number
from pv.mined.series import EndsBelowStart, IncreasesBy, NeverFalls, ends, mean
from pv.mined.two_fields import Equals, Multiple, TwoFields

MIN_RECORDS = 20  # fewer say too little: two numbers rise by chance in every second run, twenty never do
_LOSS = re.compile(r"(?<![a-z])(loss|nll|perplexity|ppl|bpb|error|mse|mae)(?![a-z])")
_DIGITS = (
    2  # significant ones of the bounds of a range, which are rounded outward: the run's own are too narrow
)
_MAX_WHOLE = 1e9  # above, a bound is shorter with an exponent
_FACTOR_DIGITS = 12
_STANDARD_ERRORS = 2  # that a loss must have fallen by


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """What holds throughout a run."""

    claims: tuple[Claim, ...]
    unclaimed: dict[str, str]  # fields of which nothing is claimed, and why, as a clause


def mine(run: Run, least: int = MIN_RECORDS) -> Mined:
    """The claims that hold throughout a run.

    Args:
        run: a healthy one.
        least: how many records must bear a claim.
    """
    unclaimed = {name: why for name in run.columns if (why := _why_not(run, name, least))}
    names = [name for name in run.columns if name not in unclaimed and run.numbers(name)]
    claims = [claim for name in names for claim in _of_one(run, name, least)]
    constant = {claim.field for claim in claims if isinstance(claim, Constant)}
    varying = [name for name in names if name not in constant]
    return Mined(claims=(*claims, *_of_two(run, varying, least)), unclaimed=unclaimed)


def _why_not(run: Run, name: str, least: int) -> str:
    """Why nothing is claimed of a field; nothing when something may be, and of one that never was a number."""
    count = len(run.numbers(name))
    column = run.column(name)
    others = sum(not is_number(value) and value is not None and value is not ABSENT for value in column)
    if others:
        return f"it is no number in {others} record(s)" if count else ""
    return f"it is a number in {count} record(s), and {least} are needed" if count < least else ""


def _of_one(run: Run, name: str, least: int) -> Iterator[Claim]:
    """The claims about one field, without what follows from others of them."""
    values = [value for _, value in run.numbers(name)]

    def holds(claim: Claim) -> bool:
        return _holds(claim, run, least)

    yield from filter(holds, [NeverNull(field=name)])
    if holds(same := Constant(field=name, value=values[0])):
        yield same
        return
    step = _rounded(values[1] - values[0])
    if step > 0 and holds(counter := IncreasesBy(field=name, step=step)):
        yield counter
        return
    yield from filter(holds, [Finite(field=name), NeverNegative(field=name)])
    if holds(rising := NeverFalls(field=name)):
        yield rising  # its range is only how long the run was
    else:
        yield from filter(holds, _ranges(name, values))
    if _LOSS.search(name.lower()) and _has_fallen(values):
        yield from filter(holds, [EndsBelowStart(field=name)])


def _of_two(run: Run, names: list[str], least: int) -> Iterator[TwoFields]:
    """The claims about two fields; one that follows from an earlier field is compared with no other."""
    derived: set[str] = set()
    for relation in (_equality, _ratio):
        for base, name in combinations(names, 2):
            if base in derived or name in derived:
                continue
            claim = relation(run, base, name)
            if claim is not None and _holds(claim, run, least):
                derived.add(name)
                yield claim


def _equality(run: Run, base: str, name: str) -> TwoFields:
    return Equals(field=name, other=base)


def _ratio(run: Run, base: str, name: str) -> TwoFields | None:
    """The claim that the larger of two fields is a multiple of the smaller, from the first record with both."""
    for a, b in zip(run.column(base), run.column(name), strict=True):
        if is_number(a) and is_number(b) and a and b:
            if abs(b) >= abs(a):
                return Multiple(field=name, other=base, factor=_factor(b, a))
            return Multiple(field=base, other=name, factor=_factor(a, b))
    return None


def _holds(claim: Claim, run: Run, least: int) -> bool:
    return next(claim.breaches(run), None) is None and claim.support(run) >= least  # most fail at once


def _factor(a: Number, b: Number) -> Number:
    ratio = a / b
    return round(ratio) if math.isfinite(ratio) and close(ratio, round(ratio)) else _rounded(ratio)


def _rounded(value: Number) -> Number:
    """A number without the last digits, which rounding has made."""
    return value if isinstance(value, int) else float(f"{value:.{_FACTOR_DIGITS}g}")


def _ranges(name: str, values: list[Number]) -> Iterator[Within]:
    low, high = min(values), max(values)
    if is_finite(low) and is_finite(high):
        yield Within(field=name, low=_outward(low, ROUND_FLOOR), high=_outward(high, ROUND_CEILING))


def _outward(value: Number, rounding: str) -> Number:
    rounded = float(Context(prec=_DIGITS, rounding=rounding).create_decimal(repr(value)))
    is_short = rounded.is_integer() and abs(rounded) < _MAX_WHOLE
    return int(rounded) if is_short or isinstance(value, int) else rounded


def _has_fallen(values: list[Number]) -> bool:
    """Whether the end is below the start by more than the noise of both."""
    start, end = ends(values)
    if len(start) < 2:
        return False
    noise = math.sqrt(_variance(start) / len(start) + _variance(end) / len(end))
    return mean(start) - mean(end) > _STANDARD_ERRORS * noise


def _variance(values: list[float]) -> float:
    middle = mean(values)
    return sum((value - middle) * (value - middle) for value in values) / (len(values) - 1)
