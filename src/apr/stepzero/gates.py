"""The gates that need no reference: each a small function of what it judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from apr.evals.loss import EvalLoss
from apr.stepzero.gate import GateResult, Verdict, verdict_of

# Two-sided band of a checkpoint without a reference. Worse than the unigram entropy, a model knows less than a
# table of counts; below a tenth of it, text would be compressed better than any model of this kind does
# (a 0.5B code model reaches a quarter on Python source).
BAND_LOW_SHARE = 0.1
RANDOM_INIT_TOLERANCE = 0.5  # nats about ln V
FINETUNE_LOSS_LIMIT = 10.0  # INV-TRAIN-005: validation loss before the first step


def tokenizer_gate(
    *,
    tokenizer_sha256: str | None,
    shards_sha256: Mapping[str, str],
    tokenizer_size: int | None,
    vocab_size: int,
) -> GateResult:
    """The shards were made by this tokenizer, and its vocabulary fits the model.

    Args:
        tokenizer_sha256: digest of the tokenizer at hand; None when there is none.
        shards_sha256: digest that each dataset's manifest names, by role.
        tokenizer_size: entries of the tokenizer.
        vocab_size: rows of the model's embedding.
    """
    same = tokenizer_sha256 is not None and all(sha == tokenizer_sha256 for sha in shards_sha256.values())
    fits = tokenizer_size is not None and tokenizer_size <= vocab_size
    return GateResult(
        id="tokens.tokenizer",
        claim="the shards were made by the model's tokenizer",
        verdict=verdict_of(same and fits),
        figure=(tokenizer_sha256 or "none")[:12],
        limit=", ".join(sorted({sha[:12] for sha in shards_sha256.values()})),
        facts={"tokenizer_size": tokenizer_size, "vocab_size": vocab_size, "sha256": tokenizer_sha256},
    )


def ids_gate(*, max_token_id: int, vocab_size: int, num_tokens: int) -> GateResult:
    """Every token id has a row in the embedding."""
    return GateResult(
        id="tokens.ids",
        claim="every token id is below the vocabulary size",
        verdict=verdict_of(max_token_id < vocab_size),
        figure=max_token_id,
        limit=vocab_size - 1,
        facts={"num_tokens": num_tokens},
    )


def split_gate(*, num_shared: int, num_train: int, num_validation: int) -> GateResult:
    """No window of tokens is in training and in validation."""
    return GateResult(
        id="tokens.split",
        claim="no window is both trained on and validated on",
        verdict=verdict_of(num_shared == 0),
        figure=num_shared,
        limit=0,
        facts={"train_windows": num_train, "validation_windows": num_validation},
    )


def container_gate(*, size_bytes: int, checksums: Mapping[str, str], file_digest: str) -> GateResult:
    """Header, footer and every tensor digest of the file hold; the reader refused it otherwise."""
    states = [checksums[key] for key in ("header", "footer", "digests")]
    verdict: Verdict = "yes" if states == ["ok", "ok", "ok"] else "not known"
    return GateResult(
        id="file.container",
        claim="checksums and digests of the file hold",
        verdict=verdict,  # a file of another writer may carry no digests: then nothing is known of its bytes
        figure="/".join(states),
        limit="ok/ok/ok",
        facts={"size_bytes": size_bytes, "file_digest": file_digest},
    )


def config_gate(*, config: Mapping[str, Any], differences: Sequence[str]) -> GateResult:
    """The configuration is complete and agrees with the tensors."""
    return GateResult(
        id="file.config",
        claim="the configuration is complete and agrees with the tensors",
        verdict=verdict_of(not differences),
        figure=f"{len(config)} fields" if not differences else "; ".join(differences),
        limit="no difference",
        facts={"config": dict(config)},
    )


def coverage_gate(*, expected: int, found: int, num_parameters: int, tied: bool) -> GateResult:
    """Every tensor of the file has one parameter, and every parameter one tensor."""
    return GateResult(
        id="weights.coverage",
        claim="tensors of the file and of the model are the same set",
        verdict=verdict_of(expected == found),
        figure=found,
        limit=expected,
        facts={"num_parameters": num_parameters, "tied": tied},
    )


def memory_gate(*, num_tensors: int, num_compared_bytes: int, tie_is_one_storage: bool) -> GateResult:
    """What is in memory is, bit for bit, what is in the file, and a tied head is the embedding's storage."""
    return GateResult(
        id="weights.memory",
        claim="every parameter in memory equals the file bit for bit",
        verdict=verdict_of(tie_is_one_storage),
        figure=f"{num_tensors} tensors, {num_compared_bytes / 1e6:,.0f} MB",
        limit="all",
        facts={"num_compared_bytes": num_compared_bytes, "tie_is_one_storage": tie_is_one_storage},
    )


def unigram_entropy(counts_V: np.ndarray) -> float:
    """Entropy of token counts [V], nats per token: what a model that ignores context can reach."""
    shares = counts_V[counts_V > 0] / counts_V.sum()
    return float(-(shares * np.log(shares)).sum())


def random_init_gate(*, loss: float, num_tokens: int, vocab_size: int) -> GateResult:
    """A randomly initialised model of this shape scores near ln V: the loss is computed as it should be."""
    centre = math.log(vocab_size)
    return GateResult(
        id="loss.random_init",
        claim="the same model with random weights scores near ln V",
        verdict=verdict_of(abs(loss - centre) <= RANDOM_INIT_TOLERANCE),
        figure=loss,
        limit=f"{centre:.3f} +- {RANDOM_INIT_TOLERANCE}",
        facts={"num_tokens": num_tokens, "ln_vocab_size": centre, "unit": "nats per token"},
    )


def step0_gate(
    *,
    step0: EvalLoss,
    random_init_loss: float,
    unigram: float,
    vocab_size: int,
    from_init: bool,
    has_reference: bool,
) -> GateResult:
    """The validation loss before step 1 is what such a start can give.

    With a reference the loss is proven elsewhere and only INV-TRAIN-005's upper limit applies here; a checkpoint
    without one must lie in a two-sided band, since too good is as wrong as too bad.
    """
    low, high = 0.0, FINETUNE_LOSS_LIMIT if from_init else 2 * math.log(vocab_size)
    if from_init and not has_reference:
        low, high = BAND_LOW_SHARE * unigram, min(high, unigram, random_init_loss - 1.0)
    return GateResult(
        id="loss.step0",
        claim="the validation loss before step 1 is inside its limits",
        verdict=verdict_of(low < step0.loss <= high),
        figure=step0.loss,
        limit=f"{low:.3f} to {high:.3f}",
        facts={
            "standard_error": step0.standard_error,
            "num_tokens": step0.num_tokens,
            "unigram_entropy": unigram,
            "gap_to_random_init": random_init_loss - step0.loss,
            "unit": "nats per token",
        },
    )


def optimizer_gate(
    *, num_state_tensors: int, max_moment: float, planned: Sequence[tuple[int, float, float]]
) -> GateResult:
    """The optimizer is fresh, and its learning rate follows the plan.

    Args:
        num_state_tensors: moments that exist and are not zero.
        max_moment: the greatest magnitude among all moments.
        planned: (step, learning rate of the plan, learning rate read back from the optimizer).
    """
    follows = all(math.isclose(want, have, rel_tol=1e-9, abs_tol=1e-15) for _, want, have in planned)
    return GateResult(
        id="optimizer.fresh",
        claim="moments are zero and the learning rate follows the plan",
        verdict=verdict_of(max_moment == 0.0 and follows),
        figure=max_moment,
        limit=0,
        facts={
            "num_state_tensors": num_state_tensors,
            "learning_rate": [{"step": s, "planned": want, "read_back": have} for s, want, have in planned],
        },
    )


def optimizer_settings_gate(
    *, planned: Mapping[str, tuple[float, ...]], read_back: Mapping[str, tuple[float, ...]]
) -> GateResult:
    """The optimizer updates exactly the model's own storages, each with the weight decay and betas of the plan.

    Args:
        planned: (weight decay, beta 1, beta 2) of every tensor, by name.
        read_back: the same, read from the optimizer's groups.
    """
    names = sorted(planned.keys() | read_back.keys())
    differing = [name for name in names if planned.get(name) != read_back.get(name)]
    decaying = sum(settings[0] > 0 for settings in planned.values())
    return GateResult(
        id="optimizer.settings",
        claim="it updates the model's own tensors with the plan's weight decay and betas",
        verdict=verdict_of(not differing),
        figure=f"{len(differing)} differ, first {differing[0]}" if differing else len(planned),
        limit=len(planned),
        facts={"num_decaying": decaying, "num_plain": len(planned) - decaying, "differing": differing[:10]},
    )


def reference_absent_gate(reason: str) -> GateResult:
    """Say that nothing independent is known of the weights."""
    return GateResult(
        id="reference.loss",
        claim="the probe's loss equals the reference",
        verdict="not known",
        figure=None,
        limit=None,
        facts={"reason": reason},
    )
