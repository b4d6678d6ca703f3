"""The faults that load without an error and leave every shape right, each planted in a loaded decoder.

Three kinds, by what else could see them. `weights`: a comparison of the parameters' bits with the file. `config`: a
value that can be read back from the built module. `computation`: nothing but the figures of a forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from torch import Tensor, no_grad

from apr.arch.config import TransformerConfig
from apr.model.decoder import Decoder


@dataclass(slots=True, kw_only=True)
class Site:
    """Where a fault is planted; a fault may also change what the pass is run with."""

    decoder: Decoder
    ids: tuple[int, ...]
    head: Tensor | None = None

    @property
    def middle(self) -> int:
        return self.decoder.config.num_hidden_layers // 2

    @property
    def last(self) -> int:
        return self.decoder.config.num_hidden_layers - 1


Plant = Callable[[Site], AbstractContextManager[object]]


def always(config: TransformerConfig) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A named fault."""

    name: str
    kind: str  # weights | config | computation
    plant: Plant
    applies: Callable[[TransformerConfig], bool] = field(default=always)
    harmless: bool = False  # equal in exact arithmetic: planted to show that it is noise


@contextmanager
def rewritten(decoder: Decoder, changes: dict[str, Callable[[Tensor], object]]) -> Iterator[None]:
    """Change parameters in place and put them back."""
    parameters = dict(decoder.named_parameters())
    before = {name: parameters[name].detach().clone() for name in changes}
    try:
        with no_grad():
            for name, change in changes.items():
                change(parameters[name])
        yield
    finally:
        with no_grad():
            for name, value in before.items():
                parameters[name].copy_(value)
