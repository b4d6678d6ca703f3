"""Texts over which tokenizers disagree: what an engine must get right before it encodes anything.

Pre-tokenizers decide by the class of a character and its neighbours, so every combination of three characters, one
for each class, stands here; the rest are the places where engines have been seen to differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from apr.tokenizer.respelled import DISPUTED

_CLASSES = (
    *("a", "Z", "s", "\u00e9", "\u4e2d", "\u0e01", "\u02b0"),  # letters: cased, uncased, modifying
    *(
        "1",
        "\u0661",
        "\u00b2",
        "\u2167",
        "\U00011de0",
    ),  # numbers: ASCII, another script's, no digit, of Unicode 17
    *(" ", "\t", "\n", "\r", "\u00a0", "\u2028", "\u3000"),  # white space, with and without a line's end
    *("'", "-", "<", "\u2019", "\U0001f600"),  # punctuation and symbols
    *(
        "\u0301",
        "\u200d",
        "\ufeff",
        "\0",
        "\x1c",
        "\u180e",
    ),  # marks, joiners, controls that some call white space
)
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "'lL", "'\u017f", "\u2019s", "''s")
_SCRIPTS = (
    *(0x0041, 0x00C0, 0x0100, 0x0370, 0x0410, 0x0531, 0x05D0, 0x0620, 0x0710, 0x0780, 0x07CA, 0x0904, 0x0985),
    *(0x0A05, 0x0A85, 0x0B05, 0x0B85, 0x0C05, 0x0C85, 0x0D05, 0x0D85, 0x0E01, 0x0E81, 0x0F40, 0x1000, 0x10A0),
    *(0x1100, 0x1200, 0x13A0, 0x1401, 0x1680, 0x16A0, 0x1700, 0x1780, 0x1820, 0x1E00, 0x1F00, 0x2100, 0x2200),
    *(0x2500, 0x2C00, 0x2D30, 0x3041, 0x30A1, 0x3105, 0x3131, 0x4E00, 0xA000, 0xAC00, 0xFB00, 0xFE20, 0xFF01),
    *(0x10000, 0x10330, 0x10400, 0x12000, 0x13000, 0x1D400, 0x1F100, 0x1F300, 0x20000, 0xE0020, 0x10FF80),
)
_EMOJI = (
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea",
    "\u2764\ufe0f\u200d\U0001f525 1\ufe0f\u20e3 \U0001f3f4\U000e0067\U000e0062\U000e007f",
)
_COMPOSED = (  # what NFC changes, keeps apart, or reorders
    "e\u0301 a\u0323\u0307 a\u0307\u0323 \u212b \u2126 \u0344 \u0958 \u1100\u1161\u11a8 \uac00\u11a8 q\u0301\u0323",
    "\u0301start \u0301 \n\u0301 '\u0301s x\u0338= \ufb01 \u00bd \u1e9b\u0323",
)
_CODE = (
    "def f(x):\r\n\treturn {'a': [x**2, 0x1F, 1_000.5e-3]}\r\n\r\n\r\n    # it's done\r\n",
    "if(a&&b||!c){return\t\t--i;}\n\n\n/*===*/  \n \n  \n\tx\n",
    "https://example.org/?q=1&r=%20#s user@example.org C:\\path\\n $HOME ~/x 3.14 12:30 1,234,567 v1.2.3",
    "trailing space ", "  ", " ", "\n", "\r\n", "\r", "", "\0", "\0" * 9, "a\0b", "\x7f\x80\x9f", "\ufffd\uffff",
)  # fmt: skip
_RUNS = (
    "a",
    "A",
    "ab",
    "=",
    "-=",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\n ",
    "0",
    "12",
    "\u4e2d",
    "e\u0301",
    "\U0001f600",
    "'s",
)
_RUN_LENGTHS = (2, 3, 4, 5, 8, 15, 16, 17, 33, 64, 127, 257, 1025)
_BORDER = 1 << 15  # engines cut long texts into chunks; the long text below is several of any likely size


def hard_texts(added_tokens: Sequence[str]) -> list[str]:
    """Make the suite, in a fixed order.

    Args:
        added_tokens: the tokenizer's own, which are found in text before anything else.
    """
    texts = ["".join(three) for three in product(_CLASSES, repeat=3)]
    pieces = [*_CODE, *_EMOJI, *_COMPOSED, *_contracted(), *_scripts(), *_added(added_tokens), *_every_kind()]
    texts += pieces
    texts += [run * (length // len(run)) for run, length in product(_RUNS, _RUN_LENGTHS)]
    return [*texts, *_long(pieces)]


def _contracted() -> Iterator[str]:
    for before, after in product(("", "x", " ", "1", "'", "\n", "\u4e2d"), ("", "x", " ", "1", "'", "\n")):
        yield "".join(f"{before}{contraction}{after}" for contraction in _CONTRACTIONS)


def _scripts() -> Iterator[str]:
    for start in _SCRIPTS:
        letters = [chr(code) for code in range(start, start + 64)]
        words = ["".join(letters[index : index + 4]) for index in range(0, 64, 4)]
        yield " ".join(words) + ", " + "1".join(words) + "\n" + "".join(letters)


def _every_kind() -> Iterator[str]:
    """Characters of all planes, each between a letter, a space and a number: tables of classes have their age."""
    yield "".join(f" {character}{character}a  {character}" for character in DISPUTED)
    for start in range(0, 0x110000, 0x2000):
        codes = range(start, start + 0x2000, 1 if start < 0x2000 else 101)
        yield "".join(f"a{chr(code)} {chr(code)}1" for code in codes if not 0xD800 <= code < 0xE000)


def _added(tokens: Sequence[str]) -> Iterator[str]:
    for token in tokens:
        yield f"a{token}b {token} {token}{token}\n{token}'s1{token[:-1]} {token[1:]} {token.upper()} {token}\u0301"


def _long(pieces: Sequence[str]) -> Iterator[str]:
    """The pieces in one text of several chunks, and cut so that other places of it fall on a border."""
    whole = "\n".join(pieces)
    yield " " + whole[: 2 * _BORDER]
    yield whole
