"""What can be wrong with a model's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import EXIT_NO_ANSWER, AprError


@dataclass(kw_only=True, eq=False)
class ConfigFieldMissing(AprError):
    """A configuration lacks fields; none is ever defaulted, because a wrong default trains without a sign."""

    id = "APR301"
    text = "the configuration of {source} lacks {fields}"
    help = "add what is missing from the model's published config; apr sets no defaults"
    source: str
    fields: str


@dataclass(kw_only=True, eq=False)
class ConfigFieldUnknown(AprError):
    """A configuration has a field that nothing reads."""

    id = "APR302"
    text = "the configuration of {source} has the unknown field {field}"
    help = "remove it, or spell it as it is meant; the nearest known field is {nearest}"
    source: str
    field: str
    nearest: str


@dataclass(kw_only=True, eq=False)
class ConfigValueBad(AprError):
    """A configuration value is out of range or contradicts another."""

    id = "APR303"
    text = "the configuration of {source} says {field} = {value}, which is not {limit}"
    help = "correct it there from the model's published config"
    source: str
    field: str
    value: str
    limit: str


@dataclass(kw_only=True, eq=False)
class ArchitectureUnsupported(AprError):
    """The file holds a model that the decoder does not express."""

    id = "APR304"
    text = "the architecture of {source} is {architecture}, and supported are {supported}"
    help = "use a decoder checkpoint of one of these families"
    source: str
    architecture: str
    supported: str


@dataclass(kw_only=True, eq=False)
class FeatureUnsupported(AprError):
    """The checkpoint uses a part of its architecture that the decoder does not compute."""

    id = "APR305"
    text = "{source} asks for {field} = {value}, which the decoder does not compute"
    help = "choose another checkpoint; training it without that would be another model"
    source: str
    field: str
    value: str


@dataclass(kw_only=True, eq=False)
class PresetUnknown(AprError):
    """No preset has that name, and no such file exists."""

    id = "APR306"
    text = "--arch {name} is neither a preset nor a JSON file"
    help = "name a JSON file, or one of {known}"
    exit_code = EXIT_NO_ANSWER
    name: str
    known: str


@dataclass(kw_only=True, eq=False)
class ArchMismatch(AprError):
    """`--arch` says something else than the file given as `--init`."""

    id = "APR307"
    text = "--arch {name} contradicts {source}: {differences}"
    help = "leave --arch out: with --init the architecture is the file's"
    name: str
    source: str
    differences: str


@dataclass(kw_only=True, eq=False)
class LoraUnsupported(AprError):
    """`--lora` asks for something that other programs have and this one does not."""

    id = "APR681"
    text = "{part} in {option} is not supported: {reason}"
    help = "leave it out"
    exit_code = EXIT_NO_ANSWER
    option: str
    part: str
    reason: str
