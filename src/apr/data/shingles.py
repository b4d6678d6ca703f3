"""A text as the set of its shingles: every five units that follow each other, each five as one number.

A unit is a word, or any other character that is not a space. So an operator counts in code, and a text of a script
without spaces is made of its characters. Case counts; spaces and the ends of lines do not. The tables stand here, as
Python's change with the Unicode database: a text has the same shingles everywhere.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

SHINGLE_RULE = "5-units-v1"  # names what follows; another rule takes another name
UNITS_IN_SHINGLE = 5
LONGEST_WORD = (
    40  # characters; a longer run has no words that anybody would see (a genome, base64): each is a unit
)
_BLOCK_CHARACTERS = 1 << 18  # bounds memory, and stays in a processor's cache
_SPACE, _SIGN, _LETTER = 0, 1, 2
_SPACES = ((0x00, 0x20), (0x7F, 0xA0), (0x1680, 0x1680), (0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x2064))
_MORE_SPACES = ((0x3000, 0x3000), (0xFEFF, 0xFEFF))
# Scripts that part words with spaces; Thai, Lao, Tibetan, Burmese, Khmer, kana and Han do not.
_LETTERS = (
    *((ord(first), ord(last)) for first, last in ("09", "AZ", "__", "az")),
    *((0xAA, 0xAA), (0xB5, 0xB5), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x0DFF)),
    *((0x10A0, 0x167F), (0x1800, 0x18AF), (0x1C80, 0x1FFF), (0x2C00, 0x2DFF), (0xA640, 0xA8FF)),
    *((0xAC00, 0xD7A3), (0xFB00, 0xFDFF), (0xFE70, 0xFEFC)),
)
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd; 2^64 divided by the golden ratio


def shingle_sets(texts: Sequence[str]) -> list[np.ndarray]:
    """The shingles of texts.

    A text of fewer units than a shingle has is one shingle, and one without any has none.

    Returns:
        For each text its distinct shingles, ascending u32.
    """
    sets: list[np.ndarray] = []
    for group in _groups(texts):
        units, bounds = _long_units(group[0]) if len(group) == 1 else _units_of_texts(group)
        rolled = _rolled(units)
        for first, end in itertools.pairwise(bounds):
            if end - first < UNITS_IN_SHINGLE:
                sets.append(_rolled(units[first:end])[:1])
            else:
                sets.append(_distinct(rolled[first : end - UNITS_IN_SHINGLE + 1]))
    return sets


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """The share of common shingles of two sets; 0 where both are empty, as nothing is known of those."""
    common = int(np.count_nonzero(np.isin(first, second, assume_unique=True, kind="sort")))
    union = len(first) + len(second) - common
    return common / union if union else 0.0


def mixed(values: np.ndarray) -> np.ndarray:
    """Spread u64 over all their bits: the finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@functools.cache
def powers(count: int) -> np.ndarray:
    """The first powers of an odd number modulo 2^64: [count] u64."""
    return np.array([pow(_MULTIPLIER, power, 1 << 64) for power in range(count)], dtype=np.uint64)


@functools.cache
def _kinds() -> np.ndarray:
    kinds = np.full(0x110000, _SIGN, dtype=np.uint8)
    for ranges, kind in ((_LETTERS, _LETTER), (_SPACES, _SPACE), (_MORE_SPACES, _SPACE)):
        for first, last in ranges:
            kinds[first : last + 1] = kind
    return kinds


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """Short texts together, as numpy is slow by the call; a long one alone."""
    group: list[str] = []
    characters = 0
    for text in texts:
        if group and characters + len(text) > _BLOCK_CHARACTERS:
            yield group
            group, characters = [], 0
        group.append(text)
        characters += len(text)
    if group:
        yield group


def _units_of_texts(texts: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """The units of texts one after the other, and where those of each begin, with the end of the last."""
    units, places = _units("\n".join(texts))
    starts = np.cumsum([0, *(len(text) + 1 for text in texts)])
    return units, np.searchsorted(places, starts).tolist()


def _long_units(text: str) -> tuple[np.ndarray, list[int]]:
    parts = [_units(block)[0] for block in _blocks(text)]
    units = np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)
    return units, [0, len(units)]


def _blocks(text: str) -> Iterator[str]:
    """Stretches of a text that end with a line where one ends at all, so that no word is cut."""
    start = 0
    while start < len(text):
        end = start + _BLOCK_CHARACTERS
        if end < len(text):
            end = max(text.rfind("\n", start, end), text.rfind(" ", start, end)) + 1 or end
        yield text[start:end]
        start = end


def _units(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The hash of each unit, u64, and the character where it begins."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    kinds = _kinds()[codes]
    begins = _begins(kinds)
    taken = np.flatnonzero(kinds)
    firsts = np.flatnonzero(begins[taken])
    if not len(firsts):
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    lengths = np.diff(firsts, append=len(taken))
    places_in_unit = np.arange(len(taken)) - np.repeat(firsts, lengths)
    values = (codes[taken].astype(np.uint64) + np.uint64(1)) * powers(LONGEST_WORD)[places_in_unit]
    return mixed(np.add.reduceat(values, firsts)), taken[firsts]


def _begins(kinds: np.ndarray) -> np.ndarray:
    """Whether a unit begins at each character."""
    is_letter = kinds == _LETTER
    before = np.concatenate([[False], is_letter[:-1]])
    after = np.concatenate([is_letter[1:], [False]])
    word_starts, word_ends = np.flatnonzero(is_letter & ~before), np.flatnonzero(is_letter & ~after) + 1
    begins = (kinds == _SIGN) | (is_letter & ~before)
    for word in np.flatnonzero(word_ends - word_starts > LONGEST_WORD):
        begins[word_starts[word] : word_ends[word]] = True
    return begins


def _rolled(units: np.ndarray) -> np.ndarray:
    """The shingle that begins at each unit, u32; of fewer units at the end."""
    total = np.zeros(len(units), dtype=np.uint64)
    for place, power in enumerate(powers(min(UNITS_IN_SHINGLE, len(units)) + 1)[1:]):
        total[: len(units) - place] += units[place:] * power
    return (mixed(total) >> np.uint64(32)).astype(np.uint32)


def _distinct(values: np.ndarray) -> np.ndarray:
    """What `np.unique` gives, in a fifth of its time."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
