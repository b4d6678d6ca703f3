"""One training step of SmolLM2-135M, 2 x 512 tokens: ours beside transformers with bf16 autocast and fused AdamW."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BAR = {"ratio": 1.0}
CLAIM = (
    "a training step of SmolLM2-135M, 2 x 512 tokens, beside transformers (bf16 autocast, fused AdamW, sdpa)"
)
BATCH, LENGTH, STEPS, LR = 2, 512, 4, 5e-5


def _batches(model: Path) -> Any:
    """The same real text for both sides: windows of the source of this Python's own modules."""
    import torch

    from apr.tokenizer.engine import TextTokenizer
    from apr.train.inputs import read_tokenizer
    from apr.workflows.demo import standard_library_sources

    tokenizer, ids, needed = TextTokenizer(read_tokenizer(model)), [], (STEPS + 1) * BATCH * LENGTH + 1
    for path in standard_library_sources():
        ids += tokenizer.encode(path.read_text(encoding="utf-8"))
        if len(ids) >= needed:
            break
    flat = torch.tensor(ids[:needed])
    inputs = flat[:-1].view(-1, BATCH, LENGTH)
    return list(zip(inputs, flat[1:].view(-1, BATCH, LENGTH), strict=True))


def _clock(step: Callable[[Any, Any], float], batches: Any) -> dict[str, Any]:
    """Warm up on the first batch, time the others, keep every loss so that both sides can be compared."""
    losses, seconds = [step(*batches[0])], []
    for inputs, targets in batches[1:]:
        start = time.perf_counter()
        losses.append(step(inputs, targets))
        seconds.append(time.perf_counter() - start)
    per_step = sorted(seconds)[len(seconds) // 2]
    return {
        "seconds": per_step,
        "tokens_per_sec": BATCH * LENGTH / per_step,
        "losses": losses,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def ours(model: Path) -> dict[str, Any]:
    import torch

    from apr.aprfile.reader import open_apr
    from apr.base.environment import keep_freed_memory
    from apr.model.load import load_decoder
    from apr.model.loss import next_token_loss
    from apr.train.optimizer import build_optimizer

    keep_freed_memory()  # as apr pretrain does
    with open_apr(model) as file:
        decoder = load_decoder(file).decoder
    optimizer = build_optimizer(decoder.named_parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.01)

    def step(inputs: Any, targets: Any) -> float:
        hidden = decoder.hidden(inputs, dtype=torch.bfloat16)
        loss = next_token_loss(hidden, decoder.head_weight, targets, 1.0 / targets.numel())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss)

    return _clock(step, _batches(model))


def theirs(model: Path) -> dict[str, Any]:
    import torch

    from apr.aprfile.metadata import model_tensors, read_facts
    from apr.aprfile.reader import open_apr
    from apr.stepzero.oracle import build_transformers_model
    from apr.train.optimizer import build_optimizer

    with open_apr(model) as file:
        tensors = {name: file.as_f32(name) for name in model_tensors(file)}
        peer = build_transformers_model(read_facts(file).config, tensors, attention="sdpa").train()
    optimizer = build_optimizer(peer.named_parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.01)

    def step(inputs: Any, targets: Any) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            # shift_labels: their loss on exactly the positions of ours.
            loss = peer(inputs, labels=targets, shift_labels=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss)

    return _clock(step, _batches(model))


if __name__ == "__main__":
    side, model = sys.argv[1:]
    print(json.dumps({"ours": ours, "theirs": theirs}[side](Path(model))))
