"""What is in memory: every parameter by digest, its values, ties as one storage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from apr.base.environment import cpu_count
from apr.stepzero.gate import GateResult, verdict_of

_PIECE = 1 << 22  # elements: 16 MB in fp32
STORED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}


def tensor_digest(value: Tensor, stored: str = "F32") -> str:
    """Hash a tensor's values as a file would store them.

    Args:
        value: on any device; fp32 where `stored` is narrower.
        stored: `F32`, `F16` or `BF16`: the type that the file holds it in.

    Returns:
        sha256, 64 hexadecimal digits; or `inexact`, where a value is none that the stored type has, so that it cannot
        have come from there.
    """
    kind, flat, digest = STORED[stored], value.detach().reshape(-1), hashlib.sha256()
    for start in range(0, flat.numel(), _PIECE):
        piece = flat[start : start + _PIECE].cpu()
        narrow = piece.to(kind)
        if kind != piece.dtype and not torch.equal(
            narrow.to(piece.dtype).view(_BITS[piece.dtype]), piece.view(_BITS[piece.dtype])
        ):
            return "inexact"
        digest.update(narrow.contiguous().view(_BITS[kind]).numpy().data)
    return digest.hexdigest()


def memory_digests(parameters: Mapping[str, Tensor], stored: Mapping[str, str]) -> dict[str, str]:
    """Hash every parameter, on every core.

    Args:
        parameters: by name.
        stored: the type in which the file holds each; a name that is not there counts as `F32`.

    Returns:
        sha256 by name, see `tensor_digest`.
    """
    # The largest first: one sha256 cannot be split, and the last to finish must be small.
    order = sorted(parameters, key=lambda name: -parameters[name].numel())
    with ThreadPoolExecutor(max_workers=cpu_count()) as pool:
        found = pool.map(lambda name: tensor_digest(parameters[name], stored.get(name, "F32")), order)
        return dict(zip(order, found, strict=True))


def memory_gate(
    *,
    expected: Mapping[str, str],
    found: Mapping[str, str],
    num_bytes: int,
    tied: bool,
    head_is_embedding: bool,
    gate_id: str = "weights.memory",
    claim: str = "every parameter in memory has the digest of its tensor in the file",
) -> GateResult:
    """Compare what is in memory with what is in the file, and a tied head with its embedding.

    Args:
        expected: sha256 of each tensor of the file, by name.
        found: sha256 of each parameter, by name.
        num_bytes: hashed.
        tied: whether the head is to be the embedding.
        head_is_embedding: whether both are one storage.
    """
    names = sorted(expected.keys() | found.keys())
    differing = [name for name in names if expected.get(name) != found.get(name)]
    tie_holds = tied == head_is_embedding
    cause = ""
    if not tie_holds:
        cause = (
            "the head is a copy that would be trained alone" if tied else "head and embedding share memory"
        )
    if differing:
        more = f" and {len(differing) - 1} more are" if len(differing) > 1 else " is"
        cause = f"{differing[0]}{more} not what the file holds"
    return GateResult(
        id=gate_id,
        claim=claim,
        verdict=verdict_of(not differing and tie_holds),
        figure=len(names) - len(differing),
        limit=len(expected),
        cause=cause,
        facts={
            "num_hashed_bytes": num_bytes,
            "differing": differing[:10],
            "tied": tied,
            "head_is_embedding": head_is_embedding,
        },
    )


def values_gate(
    parameters: Mapping[str, Tensor], digests: Mapping[str, str], accepted: Iterable[str] = ()
) -> GateResult:
    """No matrix is all one value, and no two are the same: bytes that no training leaves behind.

    Args:
        parameters: by name.
        digests: of their values, by name.
        accepted: rules that the import was told to accept: `zero`, `constant`, `duplicated`.
    """
    allowed, found = set(accepted), list(_suspicious(parameters, digests))
    refused = [(rule, name, told) for rule, name, told in found if rule not in allowed]
    return GateResult(
        id="weights.values",
        claim="no matrix is constant, and no two are the same",
        verdict=verdict_of(not refused),
        figure=len(refused),
        limit=0,
        cause=refused[0][2] if refused else "",
        facts={"findings": [told for _, _, told in found][:10], "accepted": sorted(allowed)},
    )


def _suspicious(
    parameters: Mapping[str, Tensor], digests: Mapping[str, str]
) -> Iterable[tuple[str, str, str]]:
    first: dict[str, str] = {}
    for name, value in parameters.items():
        if value.dim() < 2:
            if not bool(value.any()) and not name.endswith("bias"):
                yield "zero", name, f"every value of {name} is 0"
            continue
        low, high = (float(end) for end in torch.aminmax(value.detach()))
        if low == high:
            rule = "zero" if low == 0 else "constant"
            yield rule, name, f"every value of {name} is {low:g}"
        elif (twin := first.setdefault(digests[name], name)) != name:
            yield "duplicated", name, f"{name} and {twin} hold the same values"


def head_shares_storage(embedding: Tensor, head: Tensor) -> bool:
    """Whether two parameters are one storage, so that an update of one is an update of the other."""
    return embedding.data_ptr() == head.data_ptr() and embedding.shape == head.shape
