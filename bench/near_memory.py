"""What `--dedup near` holds of each kept document: `python -m bench.near_memory [DOCUMENTS] [THRESHOLD]`.

Documents are random keys and digests, put into the tables of the encoder itself. On one core a million takes some
twenty seconds.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time

import numpy as np

from apr.data.band_index import BandIndex
from apr.data.digest_index import DigestIndex
from apr.data.minhash import KEY_BITS, banding_of

_AT_ONCE = 1000


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    banding = banding_of(float(sys.argv[2]) if len(sys.argv) > 2 else 0.8)
    draw = np.random.default_rng(1)
    bands, digests = BandIndex(), DigestIndex()
    places = np.zeros((2, count), dtype=np.uint64)  # of lines and shingles
    places[:] = 1
    before, started = _peak_bytes(), time.perf_counter()
    for first in range(0, count, _AT_ONCE):
        keys = draw.integers(0, 1 << KEY_BITS, (_AT_ONCE, banding.num_bands), dtype=np.uint64)
        bands.in_arrays(keys)
        for number in range(_AT_ONCE):
            bands.put(keys[number], first + number)
            digests.put(hashlib.sha256(b"%d" % (first + number)).digest(), number)
    passed = time.perf_counter() - started
    entries = sum(run.nbytes for run in bands._runs)
    print(
        f"{count:,} documents, {banding}: {entries / count + 24 + places.nbytes / count:.0f} bytes each when at rest"
    )
    print(f"peak {(_peak_bytes() - before + places.nbytes) / count:.0f} bytes each, while arrays are merged")
    asked = draw.integers(0, 1 << KEY_BITS, (1000, banding.num_bands), dtype=np.uint64)
    started = time.perf_counter()
    pairs = zip(asked, bands.in_arrays(asked), strict=True)
    found = sum(len(bands.candidates(keys, older)) for keys, older in pairs)
    each = (time.perf_counter() - started) / len(asked)
    print(
        f"added in {passed / count * 1e6:.1f} us each, asked in {each * 1e6:.1f} us, {len(bands._runs)} arrays"
    )
    print(f"{found / len(asked):.3f} candidates by chance for a document")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
