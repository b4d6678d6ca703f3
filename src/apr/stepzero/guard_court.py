"""The gates of a loop that is not ours, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apr.base.environment import versions
from apr.base.files import canonical_json, sha256_bytes
from apr.evals.loss import evaluate_loss
from apr.stepzero import gates
from apr.stepzero.behaviour import BEHAVIOUR_TOKENS, behaviour_gates
from apr.stepzero.built import placement_gate
from apr.stepzero.certificate import Certificate, grade_of
from apr.stepzero.gate import GateResult, json_value, not_known, timed
from apr.stepzero.guard_batches import (
    batches_digest,
    cross_entropy_sum,
    first_loss_gate,
    first_rows,
    labels_gate,
    probe_batch,
    rows_of,
    short_batch,
)
from apr.stepzero.guard_loop import Encode, Known, Loop
from apr.stepzero.guard_module import TYPE_NAMES, compute_types, module_built_gate, observing
from apr.stepzero.guard_optimizer import fresh_gate, rate_gate, settings_gate
from apr.stepzero.guard_update import Trial, rehearse
from apr.stepzero.guard_weights import (
    digests_of,
    module_coverage_gate,
    module_memory_gate,
    unhashable_gate,
    untouched_gate,
    weights_digest,
)
from apr.stepzero.memory import values_gate
from apr.stepzero.probe import plain_probe_ids, probe_ids
from apr.stepzero.reference import Reference, compare, measure, training_gate
from apr.stepzero.registry import BY_ID, GUARDED_ONLY, required_gates
from apr.stepzero.text import probe_gate

_NOT_OURS = "the guard sees the first batches only; {} is the loop's own"
_UNSEEN = {
    "tokens.split": _NOT_OURS.format("how text was split"),
    "tokens.statistics": _NOT_OURS.format("the text as a whole"),
    "tokens.eos": _NOT_OURS.format("what ends a document"),
    "data.order": _NOT_OURS.format("the order of the data"),
    "loss.random_init": "a second model with random weights would have to be built",
}
_ODD_POSITIONS = "padding on the left or packed positions: only the loop's own loss knows how they count"
_NARROW = "the module computes in a narrower type than fp32; give forward_fp32"


class Court:
    """The gates of one loop, in order."""

    def __init__(self, loop: Loop, known: Known) -> None:
        self.loop, self.known = loop, known
        self.gates: list[GateResult] = []
        self.digests: dict[str, str] = {}
        self.vocab_size = 0
        self.types: set[str] = set()
        self.step0: dict[str, Any] = dict.fromkeys(
            ("val_loss", "random_init_loss", "reference_loss", "reference_delta")
        )

    @property
    def dtype(self) -> str:
        """The type that tolerances go by: fp32, or bf16 for any narrower one."""
        return "fp32" if self.types <= {"fp32"} else "bf16"

    @property
    def exact(self) -> Callable[[Tensor], Tensor] | None:
        """A forward pass in fp32, where there is one."""
        return self.loop.forward_fp32 or (self.loop.forward if self.dtype == "fp32" else None)

    @property
    def refused(self) -> bool:
        """Whether a gate has said no."""
        return any(gate.verdict == "no" for gate in self.gates)

    def add(self, *judges: Callable[[], GateResult]) -> None:
        """Run gates, timed, and keep what they found."""
        self.gates.extend(timed(judge) for judge in judges)

    def open_gate(self, gate_id: str, reason: str) -> None:
        """Say of a gate that it cannot be judged here."""
        self.gates.append(not_known(gate_id, BY_ID[gate_id].asks, reason))

    def judge(self) -> None:
        """Judge phase after phase, to the first that holds a no."""
        for gate_id, reason in _UNSEEN.items():
            self.open_gate(gate_id, reason)
        for phase in (
            self._file,
            self._weights,
            self._tokens,
            self._module,
            self._reference,
            self._first_loss,
            self._optimizer,
            self._update,
            self._end,
        ):
            self.loop.module.train(not self.loop.planned.dropout)
            phase()
            if self.refused:
                return

    def _file(self) -> None:
        evidence = self.known.evidence
        if evidence is None:
            for gate_id in ("file.container", "file.config", "weights.coverage", "weights.memory"):
                self.open_gate(gate_id, "no file was given")
            return
        file = evidence.file
        sums = {name: getattr(file.checksums, name) for name in ("header", "footer", "digests")}
        self.add(
            lambda: gates.container_gate(
                size_bytes=file.size_bytes, checksums=sums, file_digest=file.file_digest
            ),
            lambda: gates.config_gate(config=evidence.config.to_dict(), differences=()),
        )

    def _weights(self) -> None:
        parameters, evidence = self.loop.parameters, self.known.evidence
        if (no := unhashable_gate(parameters)) is not None:
            self.gates = [*(gate for gate in self.gates if gate.id != no.id), no]
            return
        if evidence is not None:
            self.add(lambda: module_coverage_gate(parameters, evidence))
            if self.refused:
                return

        def memory() -> GateResult:
            assert evidence is not None
            self.digests = digests_of(parameters, evidence.stored)
            return module_memory_gate(parameters, self.digests, evidence)

        if evidence is not None:
            self.add(memory)
        else:
            self.digests = digests_of(parameters, {})
        accepted = self.known.facts.accepted if self.known.facts else ()
        self.add(lambda: values_gate(parameters, self.digests, accepted))

    def _tokens(self) -> None:
        """Find the vocabulary's size and the compute type on the way."""
        loop = self.loop
        logits, self.types = compute_types(
            loop.module, lambda: loop.forward(torch.zeros(1, 2, dtype=torch.int64))
        )
        self.vocab_size = logits.shape[-1]
        given = torch.cat([batch.ids_BT.reshape(-1).cpu() for batch in loop.batches])
        labels = torch.cat([batch.labels_BT.reshape(-1).cpu() for batch in loop.batches])
        ids = torch.cat([given, labels])
        self.add(
            lambda: gates.ids_gate(
                max_token_id=int(ids.max()),
                min_token_id=int(given.min()),
                vocab_size=self.vocab_size,
                num_tokens=ids.numel() // 2,
            ),
            lambda: labels_gate(loop.batches, loop.labels_shifted),
        )
        if loop.encode is not None:
            encode = loop.encode
            self.add(lambda: self._probe_ids_agree(encode))

    def _probe_ids_agree(self, encode: Encode) -> GateResult:
        claim = "the tokenizer gives the ids recorded at import"
        reference, facts = self.known.reference, self.known.facts
        if reference is None or facts is None or facts.tokenizer_json is None:
            return not_known("tokens.probe", claim, "no file with a tokenizer and a reference was given")
        encoder = _Encoder(encode)
        _, limit = facts.config.sequence_limit
        found = probe_gate(
            recorded=reference.probe_ids, encoded=probe_ids(encoder, limit), text="", restored="", expected=""
        )
        return replace(found, claim=claim, facts={"num_tokens": len(reference.probe_ids)})

    def _module(self) -> None:
        loop, facts = self.loop, self.known.facts
        self.add(
            lambda: module_built_gate(loop.module, facts.config if facts else None),
            self._placement,
        )
        if not self.refused:
            length = max(batch.ids_BT.shape[1] for batch in loop.batches)
            probe = self._probe_ids()[: 2 * BEHAVIOUR_TOKENS]
            self.gates += behaviour_gates(loop.forward, probe, self.dtype, length)

    def _placement(self) -> GateResult:
        planned, parameters = self.loop.planned, self.loop.parameters.values()
        devices = sorted({str(value.device).removesuffix(":0") for value in parameters})
        stored = sorted({TYPE_NAMES.get(value.dtype, str(value.dtype)) for value in parameters})
        computed = " and ".join(sorted(self.types))
        if planned.device is None and planned.dtype is None:
            reason = "neither device nor type was planned"
            facts = {"reason": reason, "devices": devices, "stored": stored, "computed": computed}
            return replace(not_known("model.placement", BY_ID["model.placement"].asks, reason), facts=facts)
        return placement_gate(
            asked_device=(planned.device or " and ".join(devices)).removesuffix(":0"),
            devices=devices,
            stored_types=stored,
            asked_type=planned.dtype or computed,
            computed=computed,
        )

    def _probe_ids(self) -> tuple[int, ...]:
        if self.known.reference is not None:
            return self.known.reference.probe_ids
        limit = getattr(getattr(self.loop.module, "config", None), "max_position_embeddings", None)
        return tuple(plain_probe_ids(self.vocab_size, limit or self.loop.batches[0].ids_BT.shape[1]))

    def _reference(self) -> None:
        reference, exact = self.known.reference, self.exact
        if reference is None:
            self.add(lambda: gates.reference_absent_gate("no reference was given, or the file records none"))
            return
        if exact is None:
            self.open_gate("reference.blocks", _NARROW)
            self.open_gate("reference.loss", _NARROW)
        else:
            self._compare(reference, exact)
        if not self.refused:
            self.add(lambda: self._training_loss(reference))

    def _compare(self, reference: Reference, exact: Callable[[Tensor], Tensor]) -> None:
        loss, figures = measure(observing(exact, self.loop.blocks), reference.probe_ids)
        if self.loop.blocks:
            self.add(lambda: compare(reference, loss, figures)[0])
        else:
            self.open_gate("reference.blocks", "its blocks have other names; give them as blocks")
        self.add(lambda: compare(reference, loss, figures)[1])
        self.step0["reference_loss"] = reference.loss
        self.step0["reference_delta"] = json_value(abs(loss - reference.loss))

    def _training_loss(self, reference: Reference) -> GateResult:
        batch = probe_batch(self.loop.batches[0], reference.probe_ids, self.loop.labels_shifted)
        with torch.no_grad():
            loss = float(self.loop.loss(batch))
        gate = training_gate(reference, loss, self.dtype)
        if self.loop.is_own_loss:
            return gate
        claim = (
            "the cross-entropy of the forward pass equals the reference; the loop's own loss was not given"
        )
        return replace(gate, claim=claim)

    def _first_loss(self) -> None:
        self.add(self._band)

    def _band(self) -> GateResult:
        loop = self.loop
        pairs = [pair for batch in loop.batches for pair in rows_of(batch, loop.labels_shifted)]
        if not loop.is_plain:
            return not_known("loss.step0", BY_ID["loss.step0"].asks, _ODD_POSITIONS)
        counts_V = np.zeros(self.vocab_size, dtype=np.int64)
        for _, targets in pairs:
            counts_V += np.bincount(targets[targets >= 0].cpu().numpy(), minlength=self.vocab_size)
        gate = first_loss_gate(
            step0=evaluate_loss(cross_entropy_sum(self.exact or loop.forward), first_rows(pairs)),
            counts_V=counts_V,
            vocab_size=self.vocab_size,
            has_reference=self.known.reference is not None,
        )
        self.step0["val_loss"] = json_value(gate.figure)
        return gate

    def _optimizer(self) -> None:
        loop = self.loop
        self.add(
            lambda: settings_gate(loop.optimizer, loop.parameters, loop.planned),
            lambda: rate_gate(loop.optimizer, loop.planned),
            lambda: fresh_gate(loop.optimizer),
        )

    def _update(self) -> None:
        loop = self.loop
        loop.module.train()
        telling = [batch for batch in loop.batches if batch.num_targets(loop.labels_shifted)]
        shorts = [short_batch(batch, loop.labels_shifted) for batch in telling[:2]]
        unmeasured = ""
        if loop.planned.dropout:
            unmeasured = "something random is meant to be active, so no loss is computed twice"
        elif not loop.is_plain:
            unmeasured = (
                "padding on the left or packed positions: only the loop's own loss knows how they count"
            )
        elif self.exact is None:
            unmeasured = _NARROW
        score = cross_entropy_sum(self.exact or loop.forward)
        pairs = [batch.pairs(loop.labels_shifted) for batch in shorts]
        self.gates += rehearse(
            Trial(
                parameters=loop.parameters,
                optimizer=loop.optimizer,
                planned=loop.planned,
                loss=loop.loss,
                batches=shorts,
                num_targets=[batch.num_targets(loop.labels_shifted) for batch in shorts],
                original=self._original(),
                dtype=self.dtype,
                measured=None if unmeasured else lambda: evaluate_loss(score, pairs).loss,
                unmeasured=unmeasured,
            )
        )

    def _original(self) -> Callable[[str], Tensor]:
        """Where the weights can be had again: from the mapped file, or else from a copy."""
        evidence, parameters = self.known.evidence, self.loop.parameters
        mapped = {name for name, kind in evidence.stored.items() if kind == evidence.file.entries[name].dtype} \
            if evidence else set()  # fmt: skip
        copies = {name: value.detach().clone() for name, value in parameters.items() if name not in mapped}
        return lambda name: copies[name] if name in copies else evidence.value(name)  # type: ignore[union-attr]

    def _end(self) -> None:
        evidence = self.known.evidence
        stored = evidence.stored if evidence else {}
        self.add(lambda: untouched_gate(self.digests, digests_of(self.loop.parameters, stored)))

    def seal(self) -> Certificate:
        """Make the certificate of everything judged."""
        known, loop = self.known, self.loop
        recorded = known.reference.grade if known.reference else None
        required = (
            required_gates(
                from_init=True, has_reference=recorded is not None, has_tokenizer=False, num_steps=1
            )
            | GUARDED_ONLY
        )
        if loop.encode is not None:
            required |= {"tokens.probe"}
        evidence = known.evidence
        config = None if evidence is None else sha256_bytes(canonical_json(evidence.config.to_dict()))
        return Certificate(
            grade=grade_of(recorded, self.gates),
            gates=tuple(self.gates),
            step0=self.step0,
            inputs={
                # Without a file, the certificate is about the weights that were in memory.
                "init": evidence.file.file_digest if evidence else weights_digest(self.digests),
                "config": config,
                "tokenizer": None,
                "train": batches_digest(loop.batches),
                "validation": None,
                "plan": loop.planned.digest(loop.parameters),
            },
            required=required,
            environment={
                "versions": versions("apr-pretrain", "torch", "numpy", "transformers"),
                "device": str(next(iter(loop.parameters.values())).device),
                "dtype": " and ".join(sorted(self.types)),
                "threads": torch.get_num_threads(),
                "module": type(loop.module).__name__,
                "optimizer": type(loop.optimizer).__name__,
            },
        )


@dataclass(frozen=True, slots=True)
class _Encoder:
    """A function as the probe's tokenizer."""

    function: Encode

    def encode(self, text: str) -> list[int]:
        return list(self.function(text))
