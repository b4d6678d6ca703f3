"""What can go wrong between a checkpoint and a module."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import AprError


@dataclass(kw_only=True, eq=False)
class TensorsNotCovered(AprError):
    """The file's tensors and the model's are not the same set with the same shapes."""

    id = "APR321"
    text = "the tensors of {source} are not those of its configuration: {differences}"
    help = "import the checkpoint again from its source; nothing is initialised in place of a missing tensor"
    source: str
    differences: str


@dataclass(kw_only=True, eq=False)
class TensorNotFilled(AprError):
    """A parameter holds NaN or an infinity after loading."""

    id = "APR322"
    text = "{tensor} in {source} holds NaN or infinite values (count {num_values})"
    help = "the checkpoint is damaged; import it again from its source"
    source: str
    tensor: str
    num_values: int


@dataclass(kw_only=True, eq=False)
class TensorDiffers(AprError):
    """A parameter in memory is not, bit for bit, the tensor in the file."""

    id = "APR323"
    text = "{tensor} in memory differs from {source} in {num_values} values"
    help = "run it again; if it stays, the memory of this machine is not to be trusted"
    source: str
    tensor: str
    num_values: int


@dataclass(kw_only=True, eq=False)
class SequenceTooLong(AprError):
    """A sequence is longer than the model's positions or its attention window."""

    id = "APR324"
    text = "a sequence of {length} tokens is longer than the model's {limit_name} of {limit}"
    help = "shorten it"
    length: int
    limit_name: str
    limit: int
