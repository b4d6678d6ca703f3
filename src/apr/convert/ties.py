"""Whether an embedding and a head that are both stored are one matrix.

A GGUF file does not say. A converter that quantises a tied model may write the matrix twice, in two
quantisations. Loaded as two, the model computes the same at first and trains 136 million weights that its
published form does not have. Two roundings of one matrix differ by what rounding explains and by no more;
two matrices differ by several times that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from apr.arch.inventory import EMBEDDING, HEAD
from apr.convert.checkpoint import TieDecision, TieRequest
from apr.convert.errors import TensorNotFinite, TieImpossible, TieUndecided
from apr.convert.gguf_blocks import bits_per_weight, dequantise, mean_square_error
from apr.convert.rounding import significant

SAME_RATIO = 1.5  # rms difference over expected, up to which rounding explains it
OTHER_RATIO = 3.0  # and from which it does not; two independent matrices in 2 bits are at 3.7
SAME_COSINE = 0.99  # the worst row of one matrix in four bits has 0.993
OTHER_COSINE = 0.5  # mean over rows; two independent matrices are at 0
_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMatrix:
    """A matrix as a GGUF file stores it."""

    data: np.ndarray
    dtype: str
    shape: tuple[int, ...]


def decide_tie(
    embedding: StoredMatrix, head: StoredMatrix | None, request: TieRequest, source: str
) -> tuple[TieDecision, bool]:
    """Decide whether the head is the embedding.

    Args:
        embedding: the stored embedding.
        head: the stored head; None where the file has none.
        request: what the caller asked for; `auto` compares.
        source: where they came from, for messages.

    Returns:
        The decision, and whether the head's copy is the finer one and stands for both.

    Raises:
        TieImpossible: untied was asked for and there is one matrix.
        TieUndecided: the figures speak for neither.
        TensorNotFinite: a value is NaN or infinite.
    """
    if head is None:
        if request == "no":
            raise TieImpossible(source=source, stored=EMBEDDING)
        return TieDecision(tied=True, rule="the file stores one matrix", figures={}), False
    if request == "no":
        return TieDecision(tied=False, rule="--tie no", figures={}), False
    errors = tuple(mean_square_error(matrix.data, matrix.dtype) for matrix in (embedding, head))
    finer = _head_is_finer(embedding, head, errors)
    kept = {"kept": f"{HEAD if finer else EMBEDDING} ({(head if finer else embedding).dtype})"}
    if request == "yes":
        return TieDecision(tied=True, rule="--tie yes", figures=kept), finer
    figures = _compare(embedding, head, errors, source)
    if _is_one_matrix(figures, source):
        rule = f"the two stored copies differ by no more than {SAME_RATIO} times what rounding explains"
        return TieDecision(tied=True, rule=rule, figures=figures | kept), finer
    rule = "the two stored matrices differ by more than rounding explains"
    return TieDecision(tied=False, rule=rule, figures=figures), False


def _is_one_matrix(figures: dict[str, Any], source: str) -> bool:
    difference, expected = figures["rms_difference"], figures["expected_rms"]
    smallest, mean = figures["smallest_row_cosine"], figures["mean_row_cosine"]
    if expected is not None and difference <= SAME_RATIO * expected and smallest > SAME_COSINE:
        return True
    if mean < OTHER_COSINE or (expected is not None and difference >= OTHER_RATIO * expected):
        return False
    raise TieUndecided(
        source=source,
        rms_difference=difference,
        expected_rms=expected,
        smallest_row_cosine=smallest,
        mean_row_cosine=mean,
    )


def _head_is_finer(embedding: StoredMatrix, head: StoredMatrix, errors: tuple[float | None, ...]) -> bool:
    first, second = errors
    if first is None or second is None:  # a grid without one step: more bits are the best that is known
        return bits_per_weight(head.dtype) > bits_per_weight(embedding.dtype)
    return second < first


def _compare(
    embedding: StoredMatrix, head: StoredMatrix, errors: tuple[float | None, ...], source: str
) -> dict[str, Any]:
    # Two independent roundings of one matrix: their mean squares add.
    known = [error for error in errors if error is not None]
    expected = math.sqrt(sum(known)) if len(known) == 2 else None
    squares, cosines = 0.0, []
    for rows, others in zip(_slabs(embedding, EMBEDDING, source), _slabs(head, HEAD, source), strict=True):
        squares += float(_dots(rows - others, rows - others).sum())
        cosines.append(_cosines(rows, others))
    cosine = np.concatenate(cosines)
    return {
        "rms_difference": significant(math.sqrt(squares / math.prod(embedding.shape))),
        "expected_rms": None if expected is None else significant(expected),
        "expected_rms_embedding": None if errors[0] is None else significant(math.sqrt(errors[0])),
        "expected_rms_head": None if errors[1] is None else significant(math.sqrt(errors[1])),
        "smallest_row_cosine": significant(float(cosine.min()), 4),
        "mean_row_cosine": significant(float(cosine.mean()), 4),
        "dtype_embedding": embedding.dtype,
        "dtype_head": head.dtype,
    }


def _slabs(matrix: StoredMatrix, name: str, source: str) -> Iterator[np.ndarray]:
    for start in range(0, matrix.shape[0], _ROWS):
        rows = matrix.data[start : start + _ROWS]
        values = dequantise(rows, matrix.dtype, (len(rows), matrix.shape[1]))
        if bad := int(values.size - np.isfinite(values).sum()):
            raise TensorNotFinite(source=source, tensor=name, count=bad)
        yield values


def _dots(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    # fp32 products summed over one row only; rows are added up in fp64 by the caller.
    return np.einsum("ij,ij->i", left, right).astype(np.float64)


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    norms = np.sqrt(_dots(left, left) * _dots(right, right))
    both_zero = (_dots(left, left) == 0) & (_dots(right, right) == 0)
    return np.where(both_zero, 1.0, _dots(left, right) / np.where(norms == 0, 1.0, norms))
