"""Every way to compute the same thing: what differs between them is noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from apr.model.decoder import Decoder
from bench.tolerance.attention import Way, attending
from bench.tolerance.forward import PLAIN, Arrangement


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """One way: an arrangement of the probe, a number of threads, and a setting around the forward pass."""

    name: str
    how: Arrangement = PLAIN
    threads: int | None = None  # None: as many as the process has
    around: Callable[[Decoder], AbstractContextManager[object]] = lambda decoder: nullcontext()

    @contextmanager
    def on(self, decoder: Decoder) -> Iterator[Arrangement]:
        before = torch.get_num_threads()
        with ExitStack() as stack:
            stack.callback(torch.set_num_threads, before)
            torch.set_num_threads(self.threads or before)
            stack.enter_context(self.around(decoder))
            yield self.how


def _attention(**ways: object) -> Callable[[Decoder], AbstractContextManager[object]]:
    return lambda decoder: attending(decoder, Way(**ways))


def _without_onednn(decoder: Decoder) -> AbstractContextManager[object]:
    return torch.backends.mkldnn.flags(enabled=False)


@contextmanager
def _precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _both(*managers: AbstractContextManager[object]) -> Iterator[None]:
    with ExitStack() as stack:
        for manager in managers:
            stack.enter_context(manager)
        yield


def _math_backend(decoder: Decoder) -> AbstractContextManager[object]:
    return sdpa_kernel(SDPBackend.MATH)


VARIATIONS = (
    Variation(name="as step zero runs it"),
    Variation(name="once more"),
    Variation(name="1 thread", threads=1),
    Variation(name="2 threads", threads=2),
    Variation(name="batch of 2, second row", how=Arrangement(num_others=1, row=1)),
    Variation(name="batch of 4, third row", how=Arrangement(num_others=3, row=2)),
    Variation(name="padded by 1", how=Arrangement(pad=1)),
    Variation(name="padded by 128", how=Arrangement(pad=128)),
    Variation(name="batch of 2, padded by 37, 1 thread", how=Arrangement(num_others=1, pad=37), threads=1),
    Variation(name="in 2 pieces through the cache", how=Arrangement(pieces=2)),
    Variation(name="in 3 pieces through the cache", how=Arrangement(pieces=3)),
    Variation(name="head 97 positions at a time", how=Arrangement(head_rows=97)),
    Variation(name="head in one product", how=Arrangement(head_rows=1 << 20)),
    Variation(name="sdpa, math backend", around=_math_backend),
    Variation(name="sdpa, explicit mask", around=_attention(kernel="mask")),
    Variation(
        name="sdpa, explicit mask, math backend",
        around=lambda decoder: _both(sdpa_kernel(SDPBackend.MATH), attending(decoder, Way(kernel="mask"))),
    ),
    Variation(name="attention by hand", around=_attention(kernel="eager")),
    Variation(name="attention by hand, 1 thread", around=_attention(kernel="eager"), threads=1),
    Variation(name="without oneDNN", around=_without_onednn),
    Variation(name="without oneDNN, 1 thread", around=_without_onednn, threads=1),
    Variation(
        name="without oneDNN, attention by hand",
        around=lambda decoder: _both(_without_onednn(decoder), attending(decoder, Way())),
    ),
)

# No noise of fp32: products of another precision. Kept apart, because a limit for fp32 must refuse or avoid them.
REDUCED = (
    Variation(name='fp32, matmul precision "high"', around=lambda decoder: _precision("high")),
    Variation(name='fp32, matmul precision "medium"', around=lambda decoder: _precision("medium")),
)

# The ways whose figures were not bit-equal to another's on the first model; enough where all would take an hour.
DISTINCT = (
    "as step zero runs it",
    "batch of 2, padded by 37, 1 thread",
    "in 3 pieces through the cache",
    "sdpa, math backend",
    "attention by hand",
    "without oneDNN",
    "without oneDNN, attention by hand",
)

AUTOCAST = Variation(name="fp32 under autocast to bf16", how=Arrangement(autocast=True))


def variations(dtype: torch.dtype, names: Sequence[str] | None = None) -> tuple[Variation, ...]:
    """The ways of one compute dtype: all, or those named."""
    ways = tuple(
        replace(each, how=replace(each.how, dtype=dtype))
        for each in VARIATIONS
        if names is None or each.name in names
    )
    return ways if dtype == torch.float32 else (*ways, AUTOCAST)
