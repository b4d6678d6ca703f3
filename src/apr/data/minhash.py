"""Which texts are worth comparing: MinHash signatures from rensa, cut into bands.

Two texts are candidates when they agree in all rows of a band. With similarity s, a share s of the rows agrees, so
with b bands of r rows they are candidates with the probability 1 - (1 - s^r)^b (Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, 3.4). Candidates are compared afterwards, so a wrong one costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from rensa import RMinHash

from apr.data.shingles import mixed, powers

LIBRARY = f"rensa {version('rensa')}, algorithm {RMinHash.ALGORITHM_VERSION}"
MINHASH_SEED = 42
KEY_BITS = 34  # leaves 30 bits of 64 for the number of a document: two keys are equal by chance once in 10^10
LEAST_THRESHOLD = 0.5  # below, more texts are candidates than are not
_MOST_ROWS = 128  # of a signature
_LEAST_RECALL = 0.99  # of pairs right at the threshold; of more similar ones it is higher


@dataclass(frozen=True, slots=True, kw_only=True)
class Banding:
    """How a signature is cut."""

    num_bands: int
    num_rows: int  # of a band

    def recall(self, similarity: float) -> float:
        """The probability that two texts of this similarity are candidates."""
        return 1.0 - (1.0 - similarity**self.num_rows) ** self.num_bands


def banding_of(threshold: float) -> Banding:
    """The longest bands, and so the fewest candidates, that find a pair at the threshold in 99 cases of 100.

    Args:
        threshold: from LEAST_THRESHOLD to 1.
    """
    for num_rows in range(_MOST_ROWS, 0, -1):
        banding = Banding(num_bands=_MOST_ROWS // num_rows, num_rows=num_rows)
        if banding.recall(threshold) >= _LEAST_RECALL:
            return banding
    raise AssertionError("bands of one row find all but one pair in 2^128")


def band_keys(sets: Sequence[np.ndarray], banding: Banding) -> np.ndarray:
    """The key of each band of each text.

    Args:
        sets: shingles, none of them empty.

    Returns:
        [len(sets), num_bands] u64 below 2^KEY_BITS; the keys of two bands are as good as never equal.
    """
    num_rows, num_bands = banding.num_rows, banding.num_bands
    if not sets:
        return np.empty((0, num_bands), dtype=np.uint64)
    shingles = np.concatenate(sets).astype(np.uint64)
    offsets = np.cumsum([0, *map(len, sets)]).tolist()
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles, offsets, num_perm=num_rows * num_bands, seed=MINHASH_SEED
    )
    signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(sets), num_bands, num_rows)
    folded = (signatures * powers(num_rows + 1)[1:]).sum(axis=2, dtype=np.uint64)
    return mixed(folded + np.arange(num_bands, dtype=np.uint64)) >> np.uint64(64 - KEY_BITS)
