"""Step zero of a run: build the module, judge it, seal the certificate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from apr.arch.inventory import inventory
from apr.base.environment import versions
from apr.data.batches import evaluation_batches
from apr.data.shards import TokenDataset
from apr.data.windows import num_windows, window_hashes
from apr.evals.loss import EvalLoss, evaluate_loss
from apr.model.adapters import loss_sum, tracer
from apr.model.decoder import Decoder
from apr.model.initialise import random_decoder
from apr.model.load import load_decoder
from apr.stepzero import gates
from apr.stepzero.certificate import Certificate, grade_of
from apr.stepzero.gate import GateResult, json_value, timed
from apr.stepzero.reference import compare, measure
from apr.train.device import Compute
from apr.train.inputs import Inputs
from apr.train.optimizer import (
    build_optimizer,
    greatest_moment,
    moments,
    read_learning_rate,
    read_settings,
    set_learning_rate,
)
from apr.train.plan import RunPlan
from apr.train.reporter import Reporter

RANDOM_INIT_TOKENS = (
    1024  # the control only has to be near ln V: its standard error is far below the tolerance
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepZero:
    """What the loop starts from."""

    decoder: Decoder
    optimizer: torch.optim.AdamW
    certificate: Certificate
    step0: EvalLoss


def validation_loss(
    decoder: Decoder,
    dataset: TokenDataset,
    plan: RunPlan,
    compute: Compute,
    reporter: Reporter,
    max_tokens: int,
) -> EvalLoss:
    """Evaluate on the first windows of a validation set, at most `max_tokens` tokens (but one window at least)."""
    max_windows = max(1, max_tokens // plan.seq_length)
    total = min(num_windows(dataset.total_tokens, plan.seq_length), max_windows) * plan.seq_length
    batches = evaluation_batches(dataset, plan.seq_length, plan.batch_size, max_windows)
    return evaluate_loss(
        loss_sum(decoder, compute.dtype),
        ((batch.inputs_BT, batch.targets_BT) for batch in batches),
        lambda done: reporter.phase("validation loss", min(done, total), total),
    )


def certify(inputs: Inputs, plan: RunPlan, compute: Compute, reporter: Reporter) -> StepZero:
    """Build the model of a run and judge everything that must hold before step 1.

    Returns:
        The module, its fresh optimizer and the certificate, whose verdict the caller must heed.

    Raises:
        AprError: the checkpoint cannot be loaded at all.
    """
    court = _Court(inputs, plan, compute, reporter)
    court.judge_file()
    court.judge_tokens()
    decoder = court.build()
    court.judge_reference(decoder)
    step0 = court.judge_losses(decoder)
    optimizer = build_optimizer(
        decoder.named_parameters(), lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay
    )
    court.add(lambda: _optimizer_gate(optimizer, plan), lambda: _settings_gate(optimizer, decoder, plan))
    return StepZero(decoder=decoder, optimizer=optimizer, certificate=court.seal(), step0=step0)


class _Court:
    """The gates of one run, in order, with the figures that the certificate repeats."""

    def __init__(self, inputs: Inputs, plan: RunPlan, compute: Compute, reporter: Reporter) -> None:
        self.inputs, self.plan, self.compute, self.reporter = inputs, plan, compute, reporter
        self.gates: list[GateResult] = []
        self.step0: dict[str, Any] = dict.fromkeys(
            ("val_loss", "random_init_loss", "reference_loss", "reference_delta")
        )

    def add(self, *judges: Callable[[], GateResult]) -> None:
        """Run gates, timed, and keep what they found."""
        self.gates.extend(timed(judge) for judge in judges)

    def judge_file(self) -> None:
        """Write down what the reader has already proven; a file that fails it never comes this far."""
        init = self.inputs.init
        if init is None:
            return
        sums = {name: getattr(init.file.checksums, name) for name in ("header", "footer", "digests")}
        size = init.file.path.stat().st_size
        container = gates.container_gate(size_bytes=size, checksums=sums, file_digest=init.file.file_digest)
        # Timed where it happened: when the inputs were opened.
        self.gates.append(replace(container, seconds=init.check_seconds))
        self.add(lambda: gates.config_gate(config=self.inputs.config.to_dict(), differences=()))

    def judge_tokens(self) -> None:
        """Judge tokenizer, ids and split."""
        datasets = {"train": self.inputs.train, "validation": self.inputs.validation}
        if (tokenizer := self.inputs.tokenizer) is not None:
            made_by = {role: data.manifest.tokenizer_sha256 for role, data in datasets.items()}
            self.add(
                lambda: gates.tokenizer_gate(
                    tokenizer_sha256=tokenizer.sha256,
                    shards_sha256=made_by,
                    tokenizer_size=self.inputs.tokenizer_size,
                    vocab_size=self.inputs.config.vocab_size,
                )
            )
        self.add(
            lambda: gates.ids_gate(
                max_token_id=max(data.manifest.max_token_id for data in datasets.values()),
                vocab_size=self.inputs.config.vocab_size,
                num_tokens=sum(data.total_tokens for data in datasets.values()),
            ),
            self._split,
        )

    def _split(self) -> GateResult:
        train, validation, length = self.inputs.train, self.inputs.validation, self.plan.seq_length
        return gates.split_gate(
            num_shared=len(np.intersect1d(window_hashes(train, length), window_hashes(validation, length))),
            num_train=num_windows(train.total_tokens, length),
            num_validation=num_windows(validation.total_tokens, length),
        )

    def build(self) -> Decoder:
        """Load the checkpoint, or draw random weights where there is none."""
        init, config = self.inputs.init, self.inputs.config
        if init is None:
            return random_decoder(config, self.plan.seed, self.compute.device)
        start = time.perf_counter()
        self.reporter.phase("loading the weights", 0, None)
        loaded = load_decoder(init.file, self.compute.device)
        seconds = time.perf_counter() - start
        embedding, head = loaded.decoder.model.embed_tokens.weight, loaded.decoder.head_weight
        self.add(
            lambda: gates.coverage_gate(
                expected=len(inventory(config)),
                found=loaded.num_tensors,
                num_parameters=loaded.num_parameters,
                tied=config.tie_word_embeddings,
            )
        )
        memory = gates.memory_gate(
            num_tensors=loaded.num_tensors,
            num_compared_bytes=loaded.num_compared_bytes,
            tie_is_one_storage=(embedding.data_ptr() == head.data_ptr()) == config.tie_word_embeddings,
        )
        self.gates.append(replace(memory, seconds=seconds))
        return loaded.decoder

    def judge_reference(self, decoder: Decoder) -> None:
        """Run the probe and compare it with what the file records."""
        init = self.inputs.init
        if init is None:
            return
        if init.reference is None:
            self.add(lambda: gates.reference_absent_gate("the file records no reference"))
            return
        self.reporter.phase("probe against the reference", 0, None)
        start = time.perf_counter()
        loss, figures = measure(tracer(decoder), init.reference.probe_ids)
        seconds = time.perf_counter() - start
        blocks_gate, loss_gate = compare(init.reference, loss, figures)
        self.gates += [replace(blocks_gate, seconds=seconds), loss_gate]
        self.step0["reference_loss"] = init.reference.loss
        self.step0["reference_delta"] = json_value(abs(loss - init.reference.loss))

    def judge_losses(self, decoder: Decoder) -> EvalLoss:
        """Measure the random-init control and the step-0 loss on the validation tokens, and judge both."""
        start = time.perf_counter()
        control = self._random_init_loss(decoder)
        between = time.perf_counter()
        step0 = self._validation(decoder, self.plan.val_tokens)
        vocab_size = self.inputs.config.vocab_size
        random_gate = gates.random_init_gate(
            loss=control.loss, num_tokens=control.num_tokens, vocab_size=vocab_size
        )
        step0_gate = gates.step0_gate(
            step0=step0,
            random_init_loss=control.loss,
            unigram=gates.unigram_entropy(self.inputs.validation.token_counts()),
            vocab_size=vocab_size,
            from_init=self.inputs.init is not None,
            has_reference=self.inputs.init is not None and self.inputs.init.reference is not None,
        )
        self.gates.append(replace(random_gate, seconds=between - start))
        self.gates.append(replace(step0_gate, seconds=time.perf_counter() - between))
        self.step0["val_loss"] = json_value(step0.loss)
        self.step0["random_init_loss"] = json_value(control.loss)
        return step0

    def _random_init_loss(self, decoder: Decoder) -> EvalLoss:
        # From scratch the model itself is the random one; a second copy would only cost its memory.
        scratch = self.inputs.init is None
        other = decoder if scratch else random_decoder(decoder.config, self.plan.seed, self.compute.device)
        return self._validation(other, RANDOM_INIT_TOKENS)

    def _validation(self, decoder: Decoder, max_tokens: int) -> EvalLoss:
        return validation_loss(
            decoder, self.inputs.validation, self.plan, self.compute, self.reporter, max_tokens
        )

    def seal(self) -> Certificate:
        """Make the certificate of everything judged."""
        init = self.inputs.init
        recorded = init.reference.grade if init and init.reference else None
        return Certificate(
            grade=grade_of(recorded, self.gates) if init else None,
            gates=tuple(self.gates),
            step0=self.step0,
            inputs={**self.inputs.digests, "plan": self.plan.digest},
            environment={
                "versions": versions("apr-pretrain", "torch", "numpy", "tokenizers"),
                "device": str(self.compute.device),
                "dtype": self.compute.dtype_name,
                "threads": torch.get_num_threads(),
            },
        )


def _optimizer_gate(optimizer: torch.optim.AdamW, plan: RunPlan) -> GateResult:
    """Apply the plan's rate at the telling steps and read it back, as the loop will."""
    last = max(0, plan.num_steps - 1)
    telling = sorted({0, min(plan.warmup_steps, last), last // 2, last})
    planned = []
    for step in telling:
        want = plan.learning_rate(step)
        set_learning_rate(optimizer, want)
        planned.append((step, want, read_learning_rate(optimizer)))
    set_learning_rate(optimizer, plan.learning_rate(0))
    return gates.optimizer_gate(
        num_state_tensors=len(moments(optimizer)), max_moment=greatest_moment(optimizer), planned=planned
    )


def _settings_gate(optimizer: torch.optim.AdamW, decoder: Decoder, plan: RunPlan) -> GateResult:
    """Hold what the optimizer says of each tensor against what the config's inventory and the plan imply."""
    planned = {
        spec.name: (plan.weight_decay if len(spec.shape) > 1 else 0.0, *plan.betas)
        for spec in inventory(decoder.config)
    }
    return gates.optimizer_settings_gate(
        planned=planned, read_back=read_settings(optimizer, decoder.named_parameters())
    )
