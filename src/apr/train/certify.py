"""Step zero of a run: build the module, judge it, seal the certificate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from apr.base.environment import versions
from apr.base.files import canonical_json, sha256_bytes
from apr.data.batches import BatchStream, evaluation_batches
from apr.data.shards import TokenDataset
from apr.data.windows import num_windows
from apr.evals.loss import EvalLoss, evaluate_loss
from apr.model.adapters import loss_sum, tracer
from apr.model.decoder import Decoder
from apr.model.initialise import random_decoder
from apr.model.load import load_decoder
from apr.model.lora import rehearsed_start
from apr.stepzero import gates
from apr.stepzero.certificate import Certificate, grade_of
from apr.stepzero.gate import GateResult, json_value, timed
from apr.stepzero.messages import capturing, messages_gate
from apr.stepzero.probe import plain_probe_ids
from apr.stepzero.reference import Reference, compare, measure, training_gate
from apr.stepzero.registry import required_gates
from apr.stepzero.schedule import implied_rate, schedule_gate, telling_steps
from apr.train.certify_documents import document_judges, trained_forward
from apr.train.certify_subset import (
    adapter_digests,
    adapters_gate,
    drawn_digests,
    frozen_digests,
    kept_digest,
    merge_gate,
)
from apr.train.certify_tokens import order_judge, token_judges
from apr.train.certify_update import rehearse
from apr.train.certify_weights import (
    MemoryEvidence,
    behaviour,
    loaded_judges,
    memory_evidence,
    module_judges,
)
from apr.train.device import Compute
from apr.train.diagnose import likely_cause
from apr.train.inputs import Inputs
from apr.train.optimizer import (
    EPSILON,
    build_optimizer,
    greatest_moment,
    greatest_step,
    moments,
    read_learning_rate,
    read_settings,
    set_learning_rate,
)
from apr.train.plan import RunPlan
from apr.train.reporter import Reporter
from apr.train.subset import Subset, apply_subset, subset_of, trained_parameters

RANDOM_INIT_TOKENS = 256  # the control only has to be near ln V: its standard error is some 0.05 nat


@dataclass(frozen=True, slots=True, kw_only=True)
class StepZero:
    """What the loop starts from."""

    decoder: Decoder
    optimizer: torch.optim.AdamW
    certificate: Certificate
    stream: BatchStream  # at its start; None of it is consumed
    step0: EvalLoss | None  # None where an earlier gate said no
    frozen: Mapping[str, str]  # sha256 of what the run must leave as it is, by name


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
    batches = evaluation_batches(
        dataset, plan.seq_length, plan.batch_size, max_windows, document_mask=plan.document_mask
    )
    return evaluate_loss(
        loss_sum(decoder, compute.dtype),
        (batch.scored for batch in batches),
        lambda done: reporter.phase("validation loss", min(done, total), total),
        is_mine=compute.ranks.is_mine,
        add_up=compute.ranks.sum,
    )


def certify(inputs: Inputs, plan: RunPlan, compute: Compute, reporter: Reporter) -> StepZero:
    """Build the model of a run and judge everything that must hold before step 1.

    The judgement ends with the first phase that holds a "no": what comes later would only repeat it.

    Returns:
        The module, its fresh optimizer, the data stream and the certificate, whose verdict the caller must heed.

    Raises:
        AprError: the checkpoint cannot be loaded at all.
    """
    court = Court(inputs, plan, compute, reporter)
    with capturing() as captured:
        court.judge_file()
        court.judge_tokens()
        decoder = court.build()
        court.judge_module(decoder)
        court.judge_reference(decoder)
        court.judge_merge(decoder)
        step0 = court.judge_losses(decoder)
        optimizer = build_optimizer(
            trained_parameters(decoder, court.subset),
            lr=plan.lr,
            betas=plan.betas,
            weight_decay=plan.weight_decay,
        )
        stream = stream_of(inputs, plan)
        court.judge_optimizer(optimizer, decoder)
        court.judge_update(decoder, optimizer, stream)
        court.judge_start(decoder, optimizer)
    court.add(lambda: messages_gate(captured, court.gates))
    return StepZero(
        decoder=decoder,
        optimizer=optimizer,
        certificate=court.seal(),
        stream=stream,
        step0=step0,
        frozen=court.frozen,
    )


def stream_of(inputs: Inputs, plan: RunPlan, cursor: int = 0) -> BatchStream:
    """The training batches of a run, `cursor` windows consumed."""
    return BatchStream(
        inputs.train,
        seq_length=plan.seq_length,
        batch_size=plan.batch_size,
        seed=plan.seed,
        allow_cycle=plan.allow_shard_cycle,
        cursor=cursor,
        document_mask=plan.document_mask,
    )


def environment(compute: Compute) -> dict[str, Any]:
    """What computed: versions, device, compute type, threads, processes."""
    return {
        "versions": versions("apr-pretrain", "torch", "numpy", "tokenizers"),
        "device": str(compute.device),
        "dtype": compute.dtype_name,
        "threads": torch.get_num_threads(),
        "processes": compute.ranks.num,
    }


class Court:
    """The gates of one run, in order, with the figures that the certificate repeats."""

    def __init__(self, inputs: Inputs, plan: RunPlan, compute: Compute, reporter: Reporter) -> None:
        self.inputs, self.plan, self.compute, self.reporter = inputs, plan, compute, reporter
        self.gates: list[GateResult] = []
        self.evidence: MemoryEvidence | None = None
        self.subset = subset_of(plan, inputs.config)
        self.frozen: dict[str, str] = {}  # sha256 of what is not trained, by name
        self.subset_digests: dict[str, str] = {}  # as the certificate lists them; none where all is trained
        self.step0: dict[str, Any] = dict.fromkeys(
            ("val_loss", "random_init_loss", "reference_loss", "reference_delta")
        )

    @property
    def refused(self) -> bool:
        """Whether a gate has said no."""
        return any(gate.verdict == "no" for gate in self.gates)

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
        """Judge tokenizer, ids, text and split."""
        self.reporter.phase("tokens against the tokenizer", 0, None)
        self.add(*token_judges(self.inputs, self.plan))

    def build(self) -> Decoder:
        """Load the checkpoint, or draw random weights where there is none, and freeze what is not trained."""
        decoder = self._loaded()
        apply_subset(decoder, self.subset, self.plan.seed)
        if self.subset.is_whole:
            return decoder
        self.frozen = frozen_digests(decoder, self.subset)
        self.subset_digests["frozen"] = kept_digest(self.subset, self.frozen)
        if self.subset.lora is not None:
            self._judge_adapters(decoder)
        return decoder

    def _judge_adapters(self, decoder: Decoder) -> None:
        drawn = drawn_digests(self.subset, self.plan.seed)
        self.subset_digests["adapters"] = sha256_bytes(canonical_json(drawn))
        found = adapter_digests(decoder)
        if self.evidence is not None:  # they must be untouched too when step 1 begins
            self.evidence = replace(self.evidence, expected={**self.evidence.expected, **found})
        if not self.refused:
            self.add(lambda: adapters_gate(found, drawn, self.subset.num_trainable))

    def _loaded(self) -> Decoder:
        init, config = self.inputs.init, self.inputs.config
        if init is None:
            return random_decoder(config, self.plan.seed, self.compute.device)
        self.reporter.phase("loading the weights", 0, None)
        start = time.perf_counter()
        loaded = load_decoder(init.file, self.compute.device)
        self.evidence = memory_evidence(init.file, config)
        load_seconds = time.perf_counter() - start
        if not self.refused:
            before = len(self.gates)
            self.add(*loaded_judges(loaded, init, self.evidence))
            self.gates[before] = replace(self.gates[before], seconds=load_seconds)
        return loaded.decoder

    def judge_module(self, decoder: Decoder) -> None:
        """Judge the module's parts, and what any causal model must do."""
        if self.refused:
            return
        self.add(*module_judges(decoder, self.compute))
        inputs, plan, compute, ids = self.inputs, self.plan, self.compute, self._probe_ids()
        if not self.refused:
            forward = trained_forward(decoder, inputs, plan, compute)
            self.gates += behaviour(forward, compute, ids, plan.seq_length)
        if not self.refused:
            stream = stream_of(inputs, plan)
            self.add(*document_judges(decoder, inputs, plan, compute, stream, ids))

    def _probe_ids(self) -> tuple[int, ...]:
        init = self.inputs.init
        if init is not None and init.reference is not None:
            return init.reference.probe_ids
        _, limit = self.inputs.config.sequence_limit
        return tuple(plain_probe_ids(self.inputs.config.vocab_size, limit))

    def judge_reference(self, decoder: Decoder) -> None:
        """Run the probe and compare it with what the file records."""
        init = self.inputs.init
        if init is None or self.refused:
            return
        if init.reference is None:
            self.add(lambda: gates.reference_absent_gate("the file records no reference"))
            return
        reference = init.reference
        self.reporter.phase("probe against the reference", 0, None)
        start = time.perf_counter()
        loss, figures = measure(tracer(decoder), reference.probe_ids)
        seconds = time.perf_counter() - start
        blocks_gate, loss_gate = compare(reference, loss, figures)
        if blocks_gate.verdict == "no" and (block := blocks_gate.facts.get("first_difference")):
            cause = likely_cause(decoder, reference, block)
            if cause:
                told = f"{blocks_gate.cause.partition(': look')[0]}; {cause}"
                blocks_gate = replace(blocks_gate, cause=told, facts={**blocks_gate.facts, "likely": cause})
        self.gates += [replace(blocks_gate, seconds=seconds), loss_gate]
        self.step0["reference_loss"] = reference.loss
        self.step0["reference_delta"] = json_value(abs(loss - reference.loss))
        if not self.refused:
            self.add(lambda: self._training_loss(decoder, reference))

    def _training_loss(self, decoder: Decoder, reference: Reference) -> GateResult:
        ids = torch.tensor([reference.probe_ids], dtype=torch.int64)
        score = loss_sum(decoder, self.compute.dtype)
        pair = ids[:, :-1], ids[:, 1:]
        one = (torch.zeros_like(pair[0]),) if self.plan.document_mask else ()  # the probe is one document
        loss = evaluate_loss(score, [(*pair, *one)]).loss
        return training_gate(reference, loss, self.compute.dtype_name)

    def judge_merge(self, decoder: Decoder) -> None:
        """Judge that adapters can be merged, where the run trains any."""
        if self.subset.lora is not None and not self.refused:
            self.add(lambda: merge_gate(decoder, self._probe_ids(), self.plan.seed))

    def judge_losses(self, decoder: Decoder) -> EvalLoss | None:
        """Measure the random-init control and the step-0 loss on the validation tokens, and judge both."""
        if self.refused:
            return None
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

    def judge_optimizer(self, optimizer: torch.optim.AdamW, decoder: Decoder) -> None:
        """Judge what the optimizer holds, and the schedule through it."""
        if not self.refused:
            self.add(
                lambda: _settings_gate(optimizer, decoder, self.plan, self.subset),
                lambda: _schedule_gate(optimizer, self.plan),
            )

    def judge_update(self, decoder: Decoder, optimizer: torch.optim.AdamW, stream: BatchStream) -> None:
        """Judge the first batches, and rehearse the first update."""
        if self.refused or self.plan.num_steps == 0:
            return
        self.reporter.phase("rehearsing the first update", 0, None)
        self.add(lambda: order_judge(stream, self.inputs, self.plan))
        if (gate := _fresh_gate(optimizer)).verdict == "no":  # the rehearsal would wipe out what it holds
            self.gates.append(gate)
        if not self.refused:
            init = self.inputs.init
            names = self.subset.names
            with rehearsed_start(decoder, self.plan.seed):
                self.gates += rehearse(decoder, optimizer, stream, self.plan, self.compute, init, names)

    def judge_start(self, decoder: Decoder, optimizer: torch.optim.AdamW) -> None:
        """Judge that step 1 starts from where everything above was judged."""
        if self.refused:
            return
        self.add(lambda: _fresh_gate(optimizer))
        if (evidence := self.evidence) is not None:
            claim = "the weights that step 1 starts from are still the file's"
            self.add(lambda: evidence.judge(decoder, "weights.untouched", claim)[0])

    def validate(self, decoder: Decoder) -> EvalLoss:
        """Measure the validation loss of weights that a run goes on from."""
        found = self._validation(decoder, self.plan.val_tokens)
        self.step0["val_loss"] = json_value(found.loss)
        return found

    def seal(self, resumed_from: str | None = None) -> Certificate:
        """Make the certificate of everything judged.

        Args:
            resumed_from: evidence digest of the certificate of the run's start, where this is a resume.
        """
        init = self.inputs.init
        recorded = init.reference.grade if init and init.reference else None
        required = required_gates(
            from_init=init is not None,
            has_reference=recorded is not None,
            has_tokenizer=self.inputs.tokenizer is not None,
            num_steps=self.plan.num_steps,
            is_resumed=resumed_from is not None,
            has_subset="frozen" in self.subset_digests,
            has_adapters="adapters" in self.subset_digests,
            document_mask=self.plan.document_mask,
        )
        start = {} if resumed_from is None else {"start": resumed_from}
        return Certificate(
            grade=grade_of(recorded, self.gates) if init else None,
            gates=tuple(self.gates),
            step0=self.step0,
            inputs={**self.inputs.digests, "plan": self.plan.digest, **self.subset_digests, **start},
            required=required,
            environment=environment(self.compute),
        )


def _fresh_gate(optimizer: torch.optim.AdamW) -> GateResult:
    return gates.optimizer_gate(
        num_state_tensors=len(moments(optimizer)),
        max_moment=greatest_moment(optimizer),
        max_step=greatest_step(optimizer),
    )


def _schedule_gate(optimizer: torch.optim.AdamW, plan: RunPlan) -> GateResult:
    """Apply the plan's rate at the telling steps and read it back, as the loop will."""
    rates = []
    for step in telling_steps(plan.num_steps, plan.warmup_steps):
        implied = implied_rate(
            step,
            peak=plan.lr,
            warmup_steps=plan.warmup_steps,
            num_steps=plan.num_steps,
            schedule=plan.schedule,
        )
        planned = plan.learning_rate(step)
        set_learning_rate(optimizer, planned)
        rates.append((step, implied, planned, read_learning_rate(optimizer)))
    set_learning_rate(optimizer, plan.learning_rate(0))
    return schedule_gate(rates, num_steps=plan.num_steps, warmup_steps=plan.warmup_steps, peak=plan.lr)


def _settings_gate(
    optimizer: torch.optim.AdamW, decoder: Decoder, plan: RunPlan, subset: Subset
) -> GateResult:
    """Hold what the optimizer says of each tensor against what the config's inventory and the plan imply."""
    planned = {
        spec.name: (plan.weight_decay if len(spec.shape) > 1 else 0.0, *plan.betas, EPSILON)
        for spec in subset.trainable
    }
    return gates.optimizer_settings_gate(
        planned=planned, read_back=read_settings(optimizer, decoder.named_parameters())
    )
