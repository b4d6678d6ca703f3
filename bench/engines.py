"""Python source to shards with a fast engine under audit, beside HF tokenizers encoding the same texts.

Ours is `apr tokenize encode-corpus`: reading, encoding, the audit, hashing, writing. Theirs only reads and encodes.
What either takes to load, ours with the suite, is told apart: it does not grow with the corpus. Both give a digest of
their ids, and no figure counts unless the two are equal.
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
    from apr.data.encode import encode_corpus
    from apr.data.encode_options import EncodeOptions
    from apr.tokenizer.audited import AuditedTokenizer
    from apr.tokenizer.engine_choice import choose_engine
    from apr.train.inputs import read_tokenizer

    definition = read_tokenizer(model)
    start = time.perf_counter()
    tokenizer = choose_engine(definition, "fastokens").tokenizer
    loading_s = time.perf_counter() - start
    assert isinstance(tokenizer, AuditedTokenizer)
    options = EncodeOptions(val_fraction=0.0, eos_policy="none", glob=glob, on_bad="skip")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "shards"
        start = time.perf_counter()
        made = encode_corpus(paths, tokenizer, out, options=options).train
        seconds = time.perf_counter() - start
        digest = hashlib.sha256()
        for shard in sorted(out.glob("shard-*.bin")):
            digest.update(shard.read_bytes())
    sizes = {"text_mb": made.total_bytes / 1e6, "tokens": made.total_tokens}
    times = {"seconds": seconds, "loading_s": loading_s, "audited": tokenizer.num_audited}
    return {**times, **sizes, "ids": digest.hexdigest(), "peak_mb": _peak_mb()}


def theirs(model: Path, paths: list[Path], glob: str) -> dict[str, Any]:
    import numpy as np
    import tokenizers

    from apr.train.inputs import read_tokenizer

    text = read_tokenizer(model).json_text
    start = time.perf_counter()
    engine = tokenizers.Tokenizer.from_str(text)
    loading_s = time.perf_counter() - start
    seconds, digest, num_tokens, num_bytes = 0.0, hashlib.sha256(), 0, 0
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
    return {
        "seconds": seconds,
        "loading_s": loading_s,
        **sizes,
        "ids": digest.hexdigest(),
        "peak_mb": _peak_mb(),
    }


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
