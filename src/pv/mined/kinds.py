"""All kinds of claims, and how the text of one is read."""

from __future__ import annotations

import json
import re
from typing import Any

from pv.mined.claim import Claim
from pv.mined.each_record import Constant, Finite, NeverNegative, NeverNull, Within
from pv.mined.errors import ClaimUnread
from pv.mined.series import EndsBelowStart, IncreasesBy, NeverFalls
from pv.mined.two_fields import Equals, Multiple

KINDS: tuple[type[Claim], ...] = (
    NeverNull, Constant, Finite, NeverNegative, Within, IncreasesBy, NeverFalls, EndsBelowStart, Equals, Multiple,
)  # fmt: skip
_NAMES = ("field", "other")  # groups that hold a field's name; the others hold numbers


def read_claim(text: str) -> Claim:
    """A claim from its line of text.

    Args:
        text: such as "step increases by 1"; a field with blanks in its name stands in double quotes.

    Raises:
        ClaimUnread.
    """
    for kind in KINDS:
        found = re.fullmatch(kind.pattern, text.strip())
        if found is not None:
            try:
                return kind(**{name: _read(name, value) for name, value in found.groupdict().items()})
            except ValueError:  # a name with a wrong escape
                break
    raise ClaimUnread(claim=text, forms=", ".join(kind.form for kind in KINDS))


def _read(name: str, text: str) -> Any:
    return text if name in _NAMES and not text.startswith('"') else json.loads(text)
