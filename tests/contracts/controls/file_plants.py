"""Defects of files and certificates that take more than a value: each gets the original and returns another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def turned(original: Any) -> Any:
    """A tensor is handed out back to front."""
    return lambda self, name: np.flip(original(self, name))


def spaced(original: Any) -> Any:
    """The metadata has a space more, which no reader minds."""
    return lambda *given: original(*given) + b" "


def in_place(original: Any) -> Any:
    """A file is written where the one before it lies."""

    @contextmanager
    def writing(path: Any) -> Iterator[Any]:
        with open(path, "w+b") as stream:
            yield stream

    return writing


def nothing_missing(original: Any) -> Any:
    """Nobody asks whether every gate was judged."""
    return property(lambda self: ())


def always_yes(original: Any) -> Any:
    """Every certificate says yes."""
    return property(lambda self: "yes")


def of_nothing(original: Any) -> Any:
    """The digest covers nothing."""
    return property(lambda self: "0" * 64)


def defaulted(original: Any) -> Any:
    """Fields that a foreign file lacks get the values that are usual elsewhere."""
    usual = {"rope_theta": 10000.0, "rms_norm_eps": 1e-6, "num_key_value_heads": 1}
    return lambda *given: {**usual, **original(*given)}


def never_judged(original: Any) -> Any:
    """A certificate's figures are not judged again."""
    return lambda document: iter(())
