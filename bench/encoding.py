"""Memory and speed of `apr tokenize encode-corpus` on a large corpus: python -m bench.encoding MODEL --size-mb 2048."""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def write_corpus(path: Path, size_bytes: int) -> None:
    """JSONL of documents of some 1.5 KB, words drawn by a fixed seed: as many documents as a corpus of text has."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(20_000)]
    with path.open("w") as stream:
        written = 0
        while written < size_bytes:
            text = " ".join(draw.choices(words, k=draw.randint(20, 450)))
            written += stream.write(json.dumps({"content": text}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, help="an .apr file, for its tokenizer")
    parser.add_argument("--size-mb", type=int, default=2048)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="apr-encoding-"))
    try:
        write_corpus(folder / "corpus.jsonl", asked.size_mb << 20)
        begin = time.monotonic()
        command = [*(sys.executable, "-m", "apr", "tokenize", "encode-corpus", "--format", "json"),
                   *("--corpus", str(folder / "corpus.jsonl"), "--tokenizer", str(asked.model)),
                   *("-o", str(folder / "out"))]  # fmt: skip
        told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        figures = {
            "size_mb": asked.size_mb,
            "documents": sum(told[side]["total_documents"] for side in ("train", "validation")),
            "elapsed_s": round(time.monotonic() - begin, 1),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
        }
        print(json.dumps(figures))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
