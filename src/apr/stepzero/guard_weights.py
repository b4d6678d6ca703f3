"""The weights of a module that is not ours, under a file's names: each by digest, against what the file holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from apr.aprfile.metadata import ModelFacts
from apr.aprfile.reader import AprFile
from apr.arch.config import TransformerConfig
from apr.arch.inventory import EMBEDDING, HEAD, cover, inventory
from apr.base.files import canonical_json, sha256_bytes
from apr.stepzero.errors import NamesCollide
from apr.stepzero.gate import GateResult, verdict_of
from apr.stepzero.memory import STORED, head_shares_storage, memory_digests, memory_gate, tensor_digest

_STORED_AS = {dtype: name for name, dtype in STORED.items()}


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, without what data parallelism and the compiler put around it."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def file_names(module: nn.Module, rename: Callable[[str], str]) -> dict[str, Tensor]:
    """Every parameter under its name in the file, two names of one parameter as the first."""
    found: dict[str, Tensor] = {}
    before: dict[str, str] = {}
    for own, value in unwrapped(module).named_parameters():
        name = rename(own.replace("_orig_mod.", ""))
        if name in found:
            raise NamesCollide(first=before[name], second=own, name=name)
        found[name], before[name] = value, own
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvidence:
    """What a checkpoint says of every tensor."""

    file: AprFile
    config: TransformerConfig
    expected: dict[str, str]  # sha256 by name
    stored: dict[str, str]  # F32, F16, BF16; K-quants count as the F32 that they unfold to
    num_bytes: int

    def value(self, name: str) -> Tensor:
        """A tensor of the file, widened to fp32; a copy."""
        return torch.from_numpy(np.array(self.file.as_f32(name)))


def file_evidence(file: AprFile, facts: ModelFacts) -> FileEvidence:
    """Say what every parameter must hash to: the file's own digests, which the reader has checked."""
    own = file.metadata.get("apr_pretrain") or {}
    digests, names = own.get("digests") or {}, [spec.name for spec in inventory(facts.config)]
    stored = {
        name: kind if name in digests and (kind := file.entries[name].dtype) in STORED else "F32"
        for name in names
    }
    expected = {
        name: digests[name]
        if name in digests and file.entries[name].dtype in STORED
        else tensor_digest(torch.from_numpy(np.array(file.as_f32(name))), "F32")
        for name in names
    }
    size = sum(file.entries[name].size_bytes for name in names)
    return FileEvidence(file=file, config=facts.config, expected=expected, stored=stored, num_bytes=size)


def stored_types(parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """The type that each parameter would be stored in as it is."""
    return {name: _STORED_AS[value.dtype] for name, value in parameters.items()}


def digests_of(parameters: Mapping[str, Tensor], stored: Mapping[str, str]) -> dict[str, str]:
    """Hash every parameter as the file stores it; one that the file does not have, as it is."""
    return memory_digests(parameters, {**stored_types(parameters), **stored})


def weights_digest(digests: Mapping[str, str]) -> str:
    """One sha256 over those of all tensors: what a certificate without a file is about."""
    return sha256_bytes(canonical_json(dict(digests)))


def head_is_embedding(parameters: Mapping[str, Tensor]) -> bool:
    """Whether the module has one storage for both; a head that is listed nowhere is the embedding."""
    head, embedding = parameters.get(HEAD), parameters.get(EMBEDDING)
    return head is None or (embedding is not None and head_shares_storage(embedding, head))


def unhashable_gate(parameters: Mapping[str, Tensor]) -> GateResult | None:
    """A no, where a parameter has a type that no checkpoint holds, or no memory of its own."""
    odd = [name for name, v in parameters.items() if v.dtype not in _STORED_AS or v.is_meta]
    if not odd and not [v for v in parameters.values() if type(v.data) is not Tensor]:
        return None
    first = odd[0] if odd else next(n for n, v in parameters.items() if type(v.data) is not Tensor)
    kind = f"{str(parameters[first].dtype).removeprefix('torch.')} on {parameters[first].device}"
    return GateResult(
        id="weights.coverage", claim="tensors of the file and of the module are the same set", verdict="no",
        figure=f"{first}: {kind}", limit="whole tensors of fp32, bf16 or fp16",
        cause=f"{first} is {type(parameters[first].data).__name__} {kind}, which cannot be compared bit for bit",
    )  # fmt: skip


def module_coverage_gate(parameters: Mapping[str, Tensor], evidence: FileEvidence) -> GateResult:
    """Every tensor of the file has one parameter of its shape, and every parameter one tensor."""
    config, found = evidence.config, {name: tuple(value.shape) for name, value in parameters.items()}
    if config.tie_word_embeddings:
        found.pop(HEAD, None)  # whether it is the embedding, weights.memory says
    coverage = cover(inventory(config), found)
    told = [f"{len(coverage.missing)} tensors of the file are not in the module, such as {name}"
            for name in coverage.missing[:1]]  # fmt: skip
    told += [f"{len(coverage.unexpected)} parameters of the module are not in the file, such as {name}"
             for name in coverage.unexpected[:1]]  # fmt: skip
    told += [f"{name} is {list(have)} in the module and {list(want)} in the file"
             for name, want, have in coverage.misshapen[:1]]  # fmt: skip
    cause = "; ".join(told)
    return GateResult(
        id="weights.coverage",
        claim="tensors of the file and of the module are the same set",
        verdict=verdict_of(not cause),
        figure=cause or len(found),
        limit=len(evidence.expected),
        cause=cause,
        facts={
            "num_parameters": sum(value.numel() for value in parameters.values()),
            "tied": config.tie_word_embeddings,
        },
    )


def module_memory_gate(
    parameters: Mapping[str, Tensor], digests: Mapping[str, str], evidence: FileEvidence
) -> GateResult:
    """Every parameter is the file's bit for bit, and a tied head is the embedding."""
    tied, one = evidence.config.tie_word_embeddings, head_is_embedding(parameters)
    return memory_gate(
        expected=evidence.expected,
        found={name: digest for name, digest in digests.items() if name != HEAD or not tied},
        num_bytes=evidence.num_bytes,
        tied=tied,
        head_is_embedding=one,
    )


def untouched_gate(before: Mapping[str, str], now: Mapping[str, str]) -> GateResult:
    """The weights that step 1 starts from are those that were judged."""
    differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return GateResult(
        id="weights.untouched",
        claim="the weights that step 1 starts from are those that were judged",
        verdict=verdict_of(not differing),
        figure=len(before) - len(differing),
        limit=len(before),
        cause=f"{differing[0]} changed while the guard judged it" if differing else "",
        facts={"differing": differing[:10]},
    )
