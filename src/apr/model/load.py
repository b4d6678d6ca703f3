"""From an `.apr` file to a trainable module, with nothing left to chance.

Loading is a bijection: the inventory of the config against the tensors of the file, both ways, exact shapes. The
module's memory is NaN before it is filled, so "not loaded" cannot look like "initialised", and afterwards every
parameter is compared bit for bit with the bytes of the file, whose digests the reader has checked.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apr.aprfile.metadata import ModelFacts, model_tensors, read_facts
from apr.aprfile.reader import AprFile
from apr.arch.config import TransformerConfig
from apr.arch.inventory import Coverage, cover, inventory
from apr.model.decoder import Decoder
from apr.model.errors import TensorDiffers, TensorNotFilled, TensorsNotCovered

_PIECE = 1 << 20  # elements: 4 MB in fp32, what two cores keep in their second-level caches


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedDecoder:
    """A decoder whose every parameter came from a file, with what was counted on the way."""

    decoder: Decoder
    facts: ModelFacts
    num_tensors: int
    num_parameters: int
    num_compared_bytes: int


def require_coverage(config: TransformerConfig, file: AprFile) -> Coverage:
    """Compare the file's tensors with the config's inventory.

    Raises:
        TensorsNotCovered: any tensor is missing, left over or of another shape; all are named.
    """
    coverage = cover(inventory(config), model_tensors(file))
    if not coverage.is_exact:
        raise TensorsNotCovered(source=str(file.path), differences=describe_coverage(coverage))
    return coverage


def describe_coverage(coverage: Coverage) -> str:
    """Say in one phrase what differs; long lists are cut after three names, with their count."""
    parts = []
    if coverage.missing:
        parts.append("missing " + _some(list(coverage.missing)))
    if coverage.unexpected:
        parts.append("unexpected " + _some(list(coverage.unexpected)))
    for name, expected, found in coverage.misshapen[:3]:
        turned = ", transposed" if tuple(reversed(expected)) == found else ""
        parts.append(f"{name} is {list(found)}, not {list(expected)}{turned}")
    if len(coverage.misshapen) > 3:
        parts.append(f"and {len(coverage.misshapen) - 3} more shapes differ")
    return "; ".join(parts)


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest


@torch.no_grad()
def load_decoder(file: AprFile, device: torch.device | str = "cpu") -> LoadedDecoder:
    """Build the decoder that the file describes and fill it from the file.

    Args:
        file: an open `.apr`; open it with check="full" where the bytes must be proven.
        device: where the fp32 master weights live.

    Raises:
        TensorsNotCovered: the tensors are not those of the config.
        TensorNotFilled: a value is NaN after loading.
        TensorDiffers: a parameter is not bit for bit what the file holds.
    """
    facts = read_facts(file)
    require_coverage(facts.config, file)
    with torch.device("meta"):
        decoder = Decoder(facts.config)
    decoder = decoder.to_empty(device=device)
    parameters = dict(decoder.named_parameters())
    sizes = [_fill(file, name, parameter) for name, parameter in parameters.items()]
    return LoadedDecoder(
        decoder=decoder,
        facts=facts,
        num_tensors=len(parameters),
        num_parameters=sum(parameter.numel() for parameter in parameters.values()),
        num_compared_bytes=sum(sizes),
    )


def _fill(file: AprFile, name: str, parameter: Tensor) -> int:
    """Fill one parameter and prove it; returns the bytes compared.

    A piece at a time, so that it is copied, cast back and compared while it is still in the processor's cache: the
    proof then costs hardly more than the copy.
    """
    parameter.fill_(float("nan"))
    stored, filled = stored_tensor(file, name).reshape(-1), parameter.detach().view(-1)
    num_wrong = 0
    for start in range(0, filled.numel(), _PIECE):
        source, piece = stored[start : start + _PIECE], filled[start : start + _PIECE]
        piece.copy_(source)
        num_wrong += _count_unequal(piece, source)
    # Over the whole parameter and not the pieces: a piece left out is what this is to find. A sum is NaN or infinite
    # if any value is, and it allocates nothing; only then is anything counted.
    if not torch.isfinite(filled.sum()):
        num_values = int((~torch.isfinite(filled)).sum())
        if num_values:
            raise TensorNotFilled(source=str(file.path), tensor=name, num_values=num_values)
    if num_wrong:
        raise TensorDiffers(source=str(file.path), tensor=name, num_values=num_wrong)
    return file.entries[name].size_bytes


def _count_unequal(piece: Tensor, source: Tensor) -> int:
    """Cast a filled piece back to the stored type and compare bits: widening to fp32 loses none."""
    back = piece.to("cpu").to(source.dtype)
    bits = torch.int32 if source.dtype == torch.float32 else torch.int16
    if torch.equal(back.view(bits), source.view(bits)):
        return 0
    return int((back.view(bits) != source.view(bits)).sum())


def stored_tensor(file: AprFile, name: str) -> Tensor:
    """View a tensor of the file without a copy where torch has its type; K-quants are dequantised to fp32."""
    dtype = file.entries[name].dtype
    if dtype not in ("F32", "F16", "BF16"):
        return torch.from_numpy(file.as_f32(name))
    view = _tensor_view(file.array(name))
    return view.view(torch.bfloat16) if dtype == "BF16" else view


def _tensor_view(array: np.ndarray) -> Tensor:
    """Show a read-only array of the mapped file as a tensor.

    torch has no read-only tensors and warns of them once a process; going through the address keeps that warning for
    where it means something. Nothing here writes to a view, and the caller keeps the file open meanwhile.
    """
    buffer = (ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data)
    kind = {"float32": torch.float32, "float16": torch.float16, "uint16": torch.int16}[array.dtype.name]
    return torch.frombuffer(buffer, dtype=kind).view(array.shape)
