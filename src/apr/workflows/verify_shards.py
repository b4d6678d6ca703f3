"""The shards that a run was trained on: their digests, ids and split, and the order of their windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from apr.base.errors import AprError, FileMissing
from apr.data.shards import TokenDataset, open_dataset
from apr.data.windows import num_windows, shared_documents, shared_windows
from apr.stepzero.verify import Check, compared, unjudged
from apr.train.plan import RunPlan
from apr.workflows.verify_documents import Say, agreement


def dataset_checks(
    document: Mapping[str, Any],
    folder: Path | None,
    val_shard: Path | None,
    plan: RunPlan | None,
    tokens: list[int],
    say: Say,
) -> Iterator[Check]:
    """Hold the shards at hand against what a certificate and a run say of them.

    Args:
        document: the certificate.
        folder: the dataset; None where it is not at hand.
        val_shard: the validation shards, where the run had others than the dataset's own.
        plan: of the run; None where only a certificate is at hand.
        tokens: seen after each step, from step 0 on.
        say: told what is being done.

    Raises:
        FileMissing: a folder that was named is not there.
    """
    for path in (folder, val_shard):
        if path is not None and not path.is_dir():
            raise FileMissing(path=str(path), kind="dataset folder", made_by="apr tokenize encode-corpus")
    inputs = document["inputs"]
    # Without a plan nobody says which validation shards were meant, so the dataset's own are the guess.
    is_external = plan is not None and plan.external_validation
    own = None if folder is None or is_external else folder / "val"
    parts = {"train": folder, "validation": val_shard or own}
    needs = {"train": "--dataset", "validation": "--val-shard" if is_external else "--dataset"}
    opened: dict[str, TokenDataset] = {}
    for role, path in parts.items():
        claim, expected = f"the {role} shards at hand are those that went in", inputs.get(role)
        if path is None or not path.is_dir():
            needed = f"{needs[role]} with the folder of shards"
            yield unjudged(f"dataset.{role}", claim, "not at hand", needed)
            continue
        say(f"checking the {role} shards", 0, None)
        try:
            opened[role] = open_dataset(path)
            found = opened[role].dataset_digest
        except AprError as error:
            found = f"{error.id}, {error.message}"
        yield compared(f"dataset.{role}", claim, found, expected)
    gates = {gate["id"]: gate for gate in document["gates"]}
    try:
        if len(opened) == 2:
            yield from _text_gates(gates, opened["train"], opened["validation"], plan)
        if "train" in opened and plan is not None:
            yield from _order_checks(gates, opened["train"], plan, tokens)
    except AprError as error:  # such as fewer windows than the plan consumes
        yield compared(
            "dataset.plan", "the plan can be carried out on these shards", error.message, "it can be"
        )


def _text_gates(
    gates: Mapping[str, Any], train: TokenDataset, validation: TokenDataset, plan: RunPlan | None
) -> Iterator[Check]:
    if (gate := gates.get("tokens.ids")) is not None:
        greatest = max(train.manifest.max_token_id, validation.manifest.max_token_id)
        yield compared(
            "dataset.ids", "the greatest id is the one of the certificate", gate["figure"], greatest
        )
    if (gate := gates.get("tokens.split")) is not None and plan is not None:
        shared = shared_windows(train, validation, plan.seq_length)[0] + shared_documents(train, validation)
        claim = "as many windows and documents as the certificate says are in both parts"
        yield compared("dataset.split", claim, gate["figure"], shared)


def _order_checks(
    gates: Mapping[str, Any], train: TokenDataset, plan: RunPlan, tokens: list[int]
) -> Iterator[Check]:
    """The order of the windows is arithmetic: how many tokens every step saw follows from it."""
    # These two bring torch, which nothing else here needs.
    from apr.data.batches import BatchStream
    from apr.stepzero.order import digested_batches

    stream = BatchStream(train, plan.seq_length, plan.batch_size, plan.seed, plan.allow_shard_cycle)
    if (gate := gates.get("data.order")) is not None:
        num_batches = digested_batches(plan.num_steps * plan.grad_accum, plan.batch_size)
        digest = stream.order_digest(num_batches)
        claim = "the order of the windows is the one of the certificate"
        yield compared("dataset.order", claim, gate["facts"].get("order_sha256"), digest)
    if len(tokens) == 1:
        return
    planned = stream.planned_windows((len(tokens) - 1) * plan.grad_accum)
    last = num_windows(train.total_tokens, plan.seq_length) - 1
    missing = plan.seq_length * (last + 1) - (train.total_tokens - 1)  # padding of the last window
    expected, rows = 0, []
    for step in range(1, len(tokens)):
        windows = planned[(step - 1) * plan.windows_per_step : step * plan.windows_per_step]
        expected += len(windows) * plan.seq_length - missing * int(np.count_nonzero(windows == last))
        rows.append((f"tokens_seen of step {step}", tokens[step], expected))
    yield agreement("dataset.tokens", "every step saw the tokens of its windows", rows)
