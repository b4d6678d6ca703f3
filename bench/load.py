"""From a checkpoint file to a trainable module: ours with every byte's digest checked, theirs from the GGUF."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

BAR = {"ratio": 10.0, "ours_seconds": 3.0}
CLAIM = "Qwen2.5-Coder-0.5B, bf16 .apr to a verified trainable module, beside from_pretrained(gguf_file=...)"


def ours(model: Path) -> dict[str, Any]:
    import torch  # noqa: F401  before the clock: importing is not loading

    from apr.aprfile.reader import open_apr
    from apr.model.load import load_decoder

    start = time.perf_counter()
    with open_apr(model, "full") as file:
        loaded = load_decoder(file)
        assert file.checksums.digests == "ok"
    seconds = time.perf_counter() - start
    assert all(parameter.requires_grad for parameter in loaded.decoder.parameters())
    return {"seconds": seconds, "parameters": loaded.num_parameters, "peak_mb": _peak_mb()}


def theirs(gguf: Path) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    side, model, gguf = sys.argv[1:]
    print(json.dumps(ours(Path(model)) if side == "ours" else theirs(Path(gguf))))
