"""What step zero asks of the weights in memory and of the module that holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from apr.aprfile.reader import AprFile
from apr.arch.config import TransformerConfig
from apr.arch.inventory import inventory
from apr.model.adapters import built_facts, hidden_states, rope_at
from apr.model.decoder import Decoder
from apr.model.load import LoadedDecoder, stored_tensor
from apr.stepzero import gates
from apr.stepzero.behaviour import BEHAVIOUR_TOKENS, Forward, behaviour_gates
from apr.stepzero.built import ROPE_POSITIONS, built_gate, placement_gate, rope_reference
from apr.stepzero.gate import GateResult
from apr.stepzero.memory import STORED, memory_digests, memory_gate, tensor_digest, values_gate
from apr.train.device import Compute
from apr.train.inputs import InitFile

Judge = Callable[[], GateResult]
_TYPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEvidence:
    """Digests of a checkpoint's tensors, and how the file stores them."""

    expected: dict[str, str]
    stored: dict[str, str]  # F32, F16, BF16; K-quants count as the F32 that they unfold to
    num_bytes: int

    def judge(self, decoder: Decoder, gate_id: str, claim: str) -> tuple[GateResult, dict[str, str]]:
        """Hash what is in memory now and compare; returns the gate and the digests found."""
        parameters = dict(decoder.named_parameters())
        found = memory_digests(parameters, self.stored)
        embedding, head = decoder.model.embed_tokens.weight, decoder.head_weight
        gate = memory_gate(
            expected=self.expected,
            found=found,
            num_bytes=self.num_bytes,
            tied=decoder.config.tie_word_embeddings,
            head_is_embedding=embedding.data_ptr() == head.data_ptr(),
            gate_id=gate_id,
            claim=claim,
        )
        return gate, found


def memory_evidence(file: AprFile, config: TransformerConfig) -> MemoryEvidence:
    """Say what every parameter must hash to: the file's own digests, which the reader has checked."""
    own = file.metadata.get("apr_pretrain") or {}
    digests, names = own.get("digests") or {}, [spec.name for spec in inventory(config)]
    types = {name: file.entries[name].dtype for name in names}
    expected = {
        name: digests[name]
        if name in digests and kind in STORED
        else tensor_digest(_as_loaded(file, name), "F32")
        for name, kind in types.items()
    }
    # A file of another writer carries no digests: its tensors are hashed as they unfold.
    stored = {name: kind if name in digests and kind in STORED else "F32" for name, kind in types.items()}
    size = sum(file.entries[name].size_bytes for name in names)
    return MemoryEvidence(expected=expected, stored=stored, num_bytes=size)


def _as_loaded(file: AprFile, name: str) -> Tensor:
    return stored_tensor(file, name).float()


def loaded_judges(loaded: LoadedDecoder, init: InitFile, evidence: MemoryEvidence) -> Iterator[Judge]:
    """The gates of a checkpoint's weights, in order."""
    decoder, config = loaded.decoder, loaded.decoder.config
    yield lambda: gates.coverage_gate(
        expected=len(inventory(config)),
        found=loaded.num_tensors,
        num_parameters=loaded.num_parameters,
        tied=config.tie_word_embeddings,
    )
    digests: dict[str, str] = {}

    def memory() -> GateResult:
        gate, found = evidence.judge(
            decoder, "weights.memory", "every parameter in memory has the digest of its tensor in the file"
        )
        digests.update(found)
        return gate

    yield memory
    yield lambda: values_gate(dict(decoder.named_parameters()), digests, init.facts.accepted)


def module_judges(decoder: Decoder, compute: Compute) -> Iterator[Judge]:
    """The gates of the module, whatever its weights are."""
    yield lambda: _built(decoder)
    yield lambda: _placement(decoder, compute)


def behaviour(forward: Forward, compute: Compute, ids: tuple[int, ...], length: int) -> list[GateResult]:
    """Judge what any causal model must do, in the compute type of the run, causality at the length of its windows."""
    return behaviour_gates(forward, ids[: 2 * BEHAVIOUR_TOKENS], compute.dtype_name, length)


def _built(decoder: Decoder) -> GateResult:
    config = decoder.config
    positions = tuple(p for p in ROPE_POSITIONS if p < config.sequence_limit[1])
    found = built_facts(decoder)
    scaling = None if config.rope_scaling is None else asdict(config.rope_scaling)
    return built_gate(
        claims={name: getattr(config, name) for name in found},
        found=found,
        rope_expected=rope_reference(positions, config.head_dim, config.rope_theta, scaling),
        rope_found=rope_at(decoder, positions),
    )


def _placement(decoder: Decoder, compute: Compute) -> GateResult:
    parameters = list(decoder.parameters())
    # cuda and cuda:0 are one device where there is one
    devices = sorted({str(p.device).removesuffix(":0") for p in parameters})
    types = sorted({_TYPE_NAMES.get(p.dtype, str(p.dtype)) for p in parameters})
    probe = hidden_states(decoder, compute.dtype)(torch.zeros((1, 1), dtype=torch.int64))
    return placement_gate(
        asked_device=str(compute.device).removesuffix(":0"),
        devices=devices,
        stored_types=types,
        asked_type=compute.dtype_name,
        computed=_TYPE_NAMES.get(probe.dtype, str(probe.dtype)),
    )
