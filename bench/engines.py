"""Python source to shards with a fast engine under audit, beside HF tokenizers encoding the same texts.

Ours is the whole of `apr tokenize encode-corpus`: loading, the suite, reading, encoding, the audit, hashing, writing.
Theirs only loads, reads and encodes. Both give a digest of their ids, and no figure counts unless the two are equal.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BAR = {"ratio": 8.0}
CLAIM = (
    "source or mixed text to token shards, audited, beside tokenizers.encode_batch_fast over the same texts"
)
MAX_PEAK_MB = 1024
_BATCH_CHARACTERS = 4 << 20  # as the encoder's


def corpus(paths: list[Path], glob: str) -> Any:
    from apr.data.corpus import read_corpus

    return read_corpus(paths, glob=glob, on_bad="skip")


def ours(model: Path, paths: list[Path], glob: str) -> dict[str, Any]:
    from apr.workflows.tokenizing import encode

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "shards"
        start = time.perf_counter()
        made = encode(
            paths,
            model,
            out,
            engine="fastokens",
            val_fraction=0.0,
            eos_policy="none",
            glob=glob,
            on_bad="skip",
        )
        seconds = time.perf_counter() - start
        digest = hashlib.sha256()
        for shard in sorted(out.glob("*.bin")):
            if shard.name.startswith("shard-"):
                digest.update(shard.read_bytes())
    sizes = {"text_mb": made["train"]["total_bytes"] / 1e6, "tokens": made["train"]["total_tokens"]}
    audited = made["engine"]["audited_documents"]
    return {"seconds": seconds, **sizes, "audited": audited, "ids": digest.hexdigest(), "peak_mb": _peak_mb()}


def theirs(model: Path, paths: list[Path], glob: str) -> dict[str, Any]:
    import numpy as np
    import tokenizers

    from apr.train.inputs import read_tokenizer

    text = read_tokenizer(model, None).json_text
    start = time.perf_counter()
    engine = tokenizers.Tokenizer.from_str(text)
    seconds, digest, num_tokens, num_bytes = time.perf_counter() - start, hashlib.sha256(), 0, 0
    batches = _batches(paths, glob)
    while True:
        start = time.perf_counter()
        if not (batch := next(batches, [])):
            break
        found = engine.encode_batch_fast(batch, add_special_tokens=False)
        rows = [encoding.ids for encoding in found]
        seconds += time.perf_counter() - start
        for row in rows:  # off the clock: they would not hash
            digest.update(np.array(row, dtype="<u4").tobytes())
            num_tokens += len(row)
        num_bytes += sum(len(document.encode()) for document in batch)
    sizes = {"text_mb": num_bytes / 1e6, "tokens": num_tokens}
    return {"seconds": seconds, **sizes, "ids": digest.hexdigest(), "peak_mb": _peak_mb()}


def _batches(paths: list[Path], glob: str) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for document in corpus(paths, glob):
        if batch and characters + len(document.text) > _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
        batch.append(document.text)
        characters += len(document.text)
    if batch:
        yield batch


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    side, model, glob, *folders = sys.argv[1:]
    run = ours if side == "ours" else theirs
    print(json.dumps(run(Path(model), [Path(folder) for folder in folders], glob)))
