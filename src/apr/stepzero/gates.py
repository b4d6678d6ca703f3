"""The gates that need no reference: each a small function of what it judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from apr.evals.loss import EvalLoss
from apr.stepzero.gate import GateResult, Verdict, not_known, verdict_of

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
    cause = "" if fits else f"the tokenizer has {tokenizer_size} entries, and the model {vocab_size} rows"
    if not same:
        cause = "the shards were made by another tokenizer"
    return GateResult(
        id="tokens.tokenizer",
        claim="the shards were made by the model's tokenizer",
        verdict=verdict_of(same and fits),
        figure=(tokenizer_sha256 or "none")[:12],
        limit=", ".join(sorted({sha[:12] for sha in shards_sha256.values()})),
        cause=cause,
        facts={"tokenizer_size": tokenizer_size, "vocab_size": vocab_size, "sha256": tokenizer_sha256},
    )


def ids_gate(*, max_token_id: int, vocab_size: int, num_tokens: int, min_token_id: int = 0) -> GateResult:
    """Every token id has a row in the embedding."""
    if min_token_id < 0:
        max_token_id = min_token_id
    return GateResult(
        id="tokens.ids",
        claim="every token id is below the vocabulary size",
        verdict=verdict_of(0 <= max_token_id < vocab_size),
        figure=max_token_id,
        limit=vocab_size - 1,
        cause=""
        if 0 <= max_token_id < vocab_size
        else f"token id {max_token_id} has no row in the embedding",
        facts={"num_tokens": num_tokens},
    )


def split_gate(
    *, num_shared: int, num_train: int, num_validation: int, num_tokens: int, num_documents: int = 0
) -> GateResult:
    """No window of tokens and no document is in training and in validation.

    Args:
        num_shared: windows of both parts.
        num_train, num_validation: windows of each.
        num_tokens: of a window.
        num_documents: documents of both parts.
    """
    cause = ""
    if num_documents:
        cause = f"{num_documents} validation documents are trained on too"
    elif num_shared:
        cause = f"{num_shared} windows of {num_tokens} tokens are both trained on and validated on"
    return GateResult(
        id="tokens.split",
        claim="no window and no document is both trained on and validated on",
        verdict=verdict_of(not cause),
        figure=num_shared + num_documents,
        limit=0,
        cause=cause,
        facts={
            "train_windows": num_train,
            "validation_windows": num_validation,
            "window_tokens": num_tokens,
            "shared_windows": num_shared,
            "shared_documents": num_documents,
        },
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
        cause="; ".join(differences),
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
        cause="" if expected == found else f"{found} tensors were loaded, and the config needs {expected}",
        facts={"num_parameters": num_parameters, "tied": tied},
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
        cause=""
        if abs(loss - centre) <= RANDOM_INIT_TOLERANCE
        else f"random weights score {loss:.3f} nats instead of ln V, {centre:.3f}: the loss is computed wrongly",
        facts={"num_tokens": num_tokens, "ln_vocab_size": centre, "unit": "nats per token"},
    )


def outside_band(loss: float, low: float, high: float) -> str:
    """Say why a loss before step 1, in nats, is not between two limits; empty where it is."""
    if not loss > low:
        return (
            f"a loss of {loss:.4f} nats is too good to be true of this text: "
            "the model has seen it, or it is one thing over and over"
        )
    if not loss <= high:
        return f"a loss of {loss:.4f} nats is too bad for a checkpoint that knows this kind of text"
    return ""


def step0_gate(
    *,
    step0: EvalLoss,
    random_init_loss: float,
    unigram: float,
    vocab_size: int,
    from_init: bool,
    has_reference: bool,
) -> GateResult:
    """The validation loss before step 1 is what such a start can give: too good is as wrong as too bad.

    With a reference the weights are proven elsewhere, and the upper limit is INV-TRAIN-005's; a checkpoint without one
    must know more than a table of counts does.
    """
    low, high = BAND_LOW_SHARE * unigram, FINETUNE_LOSS_LIMIT if from_init else 2 * math.log(vocab_size)
    if from_init and not has_reference:
        high = min(high, unigram, random_init_loss - 1.0)
    cause = outside_band(step0.loss, low, high)
    return GateResult(
        id="loss.step0",
        claim="the validation loss before step 1 is inside its limits",
        verdict=verdict_of(low < step0.loss <= high),
        figure=step0.loss,
        limit=f"{low:.3f} to {high:.3f}",
        cause=cause,
        facts={
            "standard_error": step0.standard_error,
            "num_tokens": step0.num_tokens,
            "unigram_entropy": unigram,
            "gap_to_random_init": random_init_loss - step0.loss,
            "unit": "nats per token",
        },
    )


def optimizer_gate(*, num_state_tensors: int, max_moment: float, max_step: float) -> GateResult:
    """The optimizer is fresh: no moment is other than zero, and no step is counted.

    Args:
        num_state_tensors: moments that exist.
        max_moment: the greatest magnitude among all moments.
        max_step: the greatest step count of any parameter.
    """
    cause = ""
    if max_moment != 0.0:
        cause = f"the optimizer's moments reach {max_moment:.3g}: it has been used before"
    elif max_step != 0.0:
        cause = f"the optimizer counts {max_step:g} steps already"
    return GateResult(
        id="optimizer.fresh",
        claim="moments and step counts are zero before the first step",
        verdict=verdict_of(not cause),
        figure=max_moment,
        limit=0,
        cause=cause,
        facts={"num_state_tensors": num_state_tensors, "max_step": max_step},
    )


def optimizer_settings_gate(
    *, planned: Mapping[str, tuple[float, ...]], read_back: Mapping[str, tuple[float, ...]]
) -> GateResult:
    """The optimizer updates exactly the model's own storages, each with the settings of the plan.

    Args:
        planned: (weight decay, beta 1, beta 2, epsilon) of every tensor, by name.
        read_back: the same, read from the optimizer's groups.
    """
    names = sorted(planned.keys() | read_back.keys())
    differing = [name for name in names if planned.get(name) != read_back.get(name)]
    decaying = sum(settings[0] > 0 for settings in planned.values())
    cause = ""
    if differing:
        first = differing[0]
        told = ("not there", "not the model's")
        wanted, held = (
            ", ".join(f"{value:g}" for value in settings) if settings is not None else missing
            for settings, missing in zip(
                (planned.get(first), read_back.get(first)), reversed(told), strict=True
            )
        )
        cause = f"weight decay, betas and epsilon of {first} are {held} in the optimizer, and {wanted} in the plan"
    return GateResult(
        id="optimizer.settings",
        claim="it updates the model's own tensors with the plan's weight decay, betas and epsilon",
        verdict=verdict_of(not differing),
        figure=len(names) - len(differing),
        limit=len(planned),
        cause=cause,
        facts={"num_decaying": decaying, "num_plain": len(planned) - decaying, "differing": differing[:10]},
    )


def reference_absent_gate(reason: str) -> GateResult:
    """Say that nothing independent is known of the weights."""
    return not_known("reference.loss", "the probe's loss equals the reference", reason)
