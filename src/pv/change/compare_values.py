"""Compare two values of one field: each function knows in which direction its field is weaker."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeAlias

from pv.change.change import BLOCKING, Kind
from pv.contract.runner import Figure, MeasureRunner
from pv.evidence.canonical import canonical, plain

_MAX_SHOWN = 80
# The numbers of a sentence, those in names (F16, APR101) too; a hyphen within a word is no sign.
_NUMBER = re.compile(r"(?:(?<![\w.])[-+])?\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
# Words that turn a sentence around.
_TURN = re.compile(
    r"\b(not|no|never|none|nothing|nobody|without|unless|except|all|every|each|any|some|most|least|more|less|fewer"
    r"|greater|only|always|sometimes|usually|exactly|about|may|might|can|must|should|within|below|above|before|after"
    r"|\w+n't)\b"
)
_SIGN = re.compile(r"<=|>=|==|!=|<|>|=|\+|\*|/|\^")


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of one value."""

    kind: Kind
    says: str
    must_be_waived: bool


Compare: TypeAlias = Callable[[str, Any, Any], Iterator[Difference]]


def difference(kind: Kind, says: str, *, waived: bool | None = None) -> Difference:
    """A difference that must be waived when its kind must."""
    return Difference(kind, says, kind in BLOCKING if waived is None else waived)


def arrow(name: str, old: Any, new: Any) -> str:
    """What was and what is."""
    return f"{name}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    text = (
        "nothing" if value in (None, (), "") else str(plain(value) if not isinstance(value, str) else value)
    )
    text = " ".join(text.split())
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def same(old: Any, new: Any) -> bool:
    """Whether two values mean the same."""
    if type(old) is type(new) and isinstance(old, str | bool | int | NoneType):
        return bool(old == new)
    return canonical(plain(old)) == canonical(plain(new))


def anything(name: str, old: Any, new: Any) -> Iterator[Difference]:
    """A value whose change changes the claim, in a direction that nobody can tell."""
    if not same(old, new):
        yield difference(Kind.CHANGED, arrow(name, old, new))


def words(name: str, old: Any, new: Any) -> Iterator[Difference]:
    """Words or settings that claim nothing."""
    if not same(old, new):
        yield difference(Kind.REWORDED, arrow(name, old, new))


def words_in_any_order(name: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Difference]:
    """A list of words that claim nothing."""
    if sorted(old) != sorted(new):
        yield difference(Kind.REWORDED, arrow(name, old, new))


def claim(name: str, old: str | None, new: str | None) -> Iterator[Difference]:
    """Words that are the claim: another number, comparison or negation claims something else."""
    before, after = " ".join((old or "").split()), " ".join((new or "").split())
    if before == after:
        return
    if not before:
        yield difference(Kind.STRENGTHENED, arrow(name, old, new))
    elif _figures(before) != _figures(after) or _turns(before) != _turns(after) or not after:
        yield difference(Kind.CHANGED, arrow(name, old, new))
    else:  # people must say that it still means the same
        yield difference(Kind.REWORDED, arrow(name, old, new), waived=True)


def formula(name: str, old: str | None, new: str | None) -> Iterator[Difference]:
    """Mathematics, where only spaces mean nothing."""
    if "".join((old or "").split()) != "".join((new or "").split()):
        yield difference(Kind.CHANGED if old else Kind.STRENGTHENED, arrow(name, old, new))


def _figures(text: str) -> Counter[str]:
    return Counter(number.replace(",", "").replace("_", "") for number in _NUMBER.findall(text))


def _turns(text: str) -> Counter[str]:
    lower = text.lower()
    return Counter([*_TURN.findall(lower), *_SIGN.findall(lower)])


def smaller_is_stronger(name: str, old: float | None, new: float | None) -> Iterator[Difference]:
    """A tolerance. One that appears or goes is a weaker claim either way: exact became roughly, or a limit is gone."""
    if same(old, new):
        return
    is_stronger = old is not None and new is not None and new < old
    yield difference(Kind.STRENGTHENED if is_stronger else Kind.WEAKENED, arrow(name, old, new))


def larger_is_stronger(name: str, old: float | None, new: float | None) -> Iterator[Difference]:
    """A bound, a size, a number of examples or repeats; none is the smallest."""
    if same(old, new):
        return
    is_stronger = new is not None and (old is None or new > old)
    yield difference(Kind.STRENGTHENED if is_stronger else Kind.WEAKENED, arrow(name, old, new))


def more_is_stronger(name: str, old: tuple[Any, ...], new: tuple[Any, ...]) -> Iterator[Difference]:
    """A list of which each item adds to the claim, in any order."""
    yield from _items(name, old, new, Kind.WEAKENED, Kind.STRENGTHENED)


def fewer_is_stronger(name: str, old: tuple[Any, ...], new: tuple[Any, ...]) -> Iterator[Difference]:
    """A list of conditions, in any order."""
    yield from _items(name, old, new, Kind.STRENGTHENED, Kind.WEAKENED)


def _items(
    name: str, old: tuple[Any, ...], new: tuple[Any, ...], gone: Kind, come: Kind
) -> Iterator[Difference]:
    before, after = {_key(i): i for i in old}, {_key(i): i for i in new}
    for key, item in before.items():
        if key not in after:
            yield difference(gone, f"{name} without {_shown(item)}")
    for key, item in after.items():
        if key not in before:
            yield difference(come, f"{name} with {_shown(item)}")


def _key(item: Any) -> str | bytes:
    """What an item means: a text is itself, which is quicker said."""
    return item if isinstance(item, str) else canonical(plain(item))


def true_is_stronger(name: str, old: bool, new: bool) -> Iterator[Difference]:
    """A flag that asks for more."""
    if old != new:
        yield difference(Kind.STRENGTHENED if new else Kind.WEAKENED, arrow(name, old, new))


def limit(old: Figure | MeasureRunner, new: Figure | MeasureRunner) -> Iterator[Difference]:
    """The limit of a figure: which side of it is weaker follows from the comparison."""
    if old.unit != new.unit:
        yield difference(Kind.CHANGED, arrow("unit", old.unit, new.unit))
    if (old.op, old.value) == (new.op, new.value):
        return
    shown = f"limit: {old.op} {_shown(old.value)} -> {new.op} {_shown(new.value)}"
    yield difference(_limit_kind(old, new), shown)


def _limit_kind(old: Figure | MeasureRunner, new: Figure | MeasureRunner) -> Kind:
    if old.value is None or new.value is None or not old.op or not new.op or old.op[0] != new.op[0]:
        return Kind.CHANGED
    if old.op[0] not in "<>":
        return Kind.CHANGED
    if old.value != new.value:
        is_tighter = (new.value < old.value) == (new.op[0] == "<")
    else:
        is_tighter = len(new.op) < len(old.op)  # "<" is tighter than "<="
    return Kind.STRENGTHENED if is_tighter else Kind.WEAKENED
