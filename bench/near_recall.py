"""Which near-duplicates `--dedup near` finds: `python -m bench.near_recall FOLDER [THRESHOLD]`.

700 Python files of the folder, each edited six times more and more; every edit is compared with its original by their
shingles, and asked for among its candidates. Prints the table of docs/data.md.
"""

from __future__ import annotations

import random
import sys
from itertools import pairwise
from pathlib import Path

from apr.data.band_index import BandIndex
from apr.data.minhash import band_keys, banding_of
from apr.data.shingles import jaccard, shingle_sets

NUM_TEXTS = 700
LEAST_CHARACTERS = 200
SHARES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12)  # of the words that an edit touches
EDGES = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.01)


def edited(text: str, share: float, draw: random.Random) -> str:
    """Leave out, replace and add a third of the share of a text's words each."""
    words: list[str] = []
    for word in text.split(" "):
        chance = draw.random() / share
        if chance < 1 / 3:
            continue
        words.append(f"new{draw.randrange(10**6)}" if chance < 2 / 3 else word)
        if 2 / 3 <= chance < 1:
            words.append(f"more{draw.randrange(10**6)}")
    return " ".join(words)


def main() -> None:
    """Measure and print."""
    folder, threshold = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.8
    read = (path.read_text(errors="replace") for path in sorted(folder.rglob("*.py")))
    texts = [text for text in read if len(text) > LEAST_CHARACTERS][:NUM_TEXTS]
    draw, banding = random.Random(1), banding_of(threshold)
    sets = shingle_sets([*texts, *(edited(text, share, draw) for share in SHARES for text in texts)])
    keys, index = band_keys(sets, banding), BandIndex()
    for number, own in enumerate(keys):
        index.put(own, number)
    pairs, older = [], index.in_arrays(keys[: len(texts)])
    for first in range(len(texts)):
        found = set(index.candidates(keys[first], older[first]))
        for second in range(first + len(texts), len(sets), len(texts)):
            pairs.append((jaccard(sets[first], sets[second]), second in found))
    print("| similarity of the pair | pairs | are candidates | by the formula |\n|---|---|---|---|")
    for low, high in reversed(list(pairwise(EDGES))):
        part = [(similarity, found) for similarity, found in pairs if low <= similarity < high]
        if part:
            seen = sum(found for _, found in part) / len(part)
            implied = sum(banding.recall(similarity) for similarity, _ in part) / len(part)
            print(f"| {low:g} to {min(high, 1):g} | {len(part)} | {seen:.3f} | {implied:.3f} |")
    over = [found for similarity, found in pairs if similarity >= threshold]
    print(f"{sum(over)} of {len(over)} pairs over {threshold:g} are candidates")


if __name__ == "__main__":
    main()
