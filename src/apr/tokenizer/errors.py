"""What can be wrong with a tokenizer, its special ids, or a text given to it."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import EXIT_NO_ANSWER, AprError


@dataclass(kw_only=True, eq=False)
class TokenizerNotLoadable(AprError):
    """The text of a tokenizer.json is not one that the engine can load."""

    id = "APR401"
    text = "the tokenizer of {source} cannot be loaded ({reason})"
    help = "fetch its tokenizer.json again, or give another with --tokenizer PATH"
    source: str
    reason: str


@dataclass(kw_only=True, eq=False)
class AddedTokenMoved(AprError):
    """An added token would get another id than the one its tokenizer.json declares.

    The engine only logs this; every such token would then be trained under a wrong row of the embedding.
    """

    id = "APR402"
    text = "the added token {token} is declared as id {declared} but loads as {found}"
    help = "take the tokenizer.json that was published with the checkpoint; this one was edited or cut"
    token: str
    declared: int
    found: str


@dataclass(kw_only=True, eq=False)
class EndOfTextAmbiguous(AprError):
    """Several tokens could be the document separator, and the declared eos is none of them."""

    id = "APR403"
    text = "the document separator is ambiguous: {candidates} are both control tokens"
    help = "name the one the model was trained with: --eos-token TOKEN"
    candidates: str


@dataclass(kw_only=True, eq=False)
class TokenUnknown(AprError):
    """A named special token is not in the vocabulary."""

    id = "APR404"
    text = "{asked_by} names the token {token}, which the vocabulary does not hold"
    help = "near it are: {nearest}"
    asked_by: str
    token: str
    nearest: str


@dataclass(kw_only=True, eq=False)
class SpecialTokenBad(AprError):
    """A special token is declared in a form, or with an id, that means nothing for this vocabulary."""

    id = "APR405"
    text = "in {source} {field} is {value}, and it should be {limit}"
    help = "correct it there from the published tokenizer"
    source: str
    field: str
    value: str
    limit: str


@dataclass(kw_only=True, eq=False)
class TokenizerChanged(AprError):
    """The special ids were recorded for another tokenizer.json than the one beside them."""

    id = "APR406"
    text = "the special ids belong to a tokenizer.json with digest {recorded}, but this one has {found}"
    help = "put the original tokenizer.json back, or remove tokenizer_apr.json to choose the ids again"
    recorded: str
    found: str


@dataclass(kw_only=True, eq=False)
class TextNotUnicode(AprError):
    """A text holds lone surrogates, so it has no UTF-8 form and no tokens."""

    id = "APR407"
    text = "text {index} of the batch is not Unicode text ({reason})"
    help = "read it as UTF-8 and skip or repair what does not decode"
    index: int
    reason: str


@dataclass(kw_only=True, eq=False)
class CannotEncode(AprError):
    """The engine refused a text, for instance because it needs an unknown token that is not there."""

    id = "APR408"
    text = "the tokenizer refuses the text ({reason})"
    help = "use a tokenizer whose vocabulary covers every byte"
    reason: str


@dataclass(kw_only=True, eq=False)
class TokenIdUnknown(AprError):
    """An id has no token; a checkpoint's table may be padded beyond its vocabulary."""

    id = "APR409"
    text = "the id {token_id} has no token; the vocabulary ends at {max_id}"
    help = "check that these ids come from this tokenizer"
    token_id: int
    max_id: int


@dataclass(kw_only=True, eq=False)
class GgufTokenizerFieldMissing(AprError):
    """A GGUF file says too little to rebuild its tokenizer."""

    id = "APR411"
    text = "the GGUF file has no {field}, which its tokenizer needs"
    help = "give the published tokenizer with --tokenizer PATH"
    exit_code = EXIT_NO_ANSWER
    field: str


@dataclass(kw_only=True, eq=False)
class GgufTokenizerFieldBad(AprError):
    """A tokenizer field of a GGUF file contradicts the format or another field."""

    id = "APR412"
    text = "the GGUF file says {field} = {value}, which is not {limit}"
    help = "convert the checkpoint again, or give the published tokenizer with --tokenizer PATH"
    field: str
    value: str
    limit: str


@dataclass(kw_only=True, eq=False)
class GgufTokenizerUnsupported(AprError):
    """The kind of tokenizer in a GGUF file is not rebuilt by apr."""

    id = "APR413"
    text = "the GGUF file holds a tokenizer of kind {kind}, which is none of {supported}"
    help = "give the published tokenizer with --tokenizer PATH"
    kind: str
    supported: str


@dataclass(kw_only=True, eq=False)
class PreTokenizerUnknown(AprError):
    """A GGUF file names how text is split before the merges, and apr does not know that name.

    A guess would train on other ids than the model's own, without a sign.
    """

    id = "APR414"
    text = "the GGUF file names the pre-tokenizer {name}, which is none of {supported}"
    help = "give the published tokenizer with --tokenizer PATH"
    name: str
    supported: str


@dataclass(kw_only=True, eq=False)
class GgufTokenizerInexact(AprError):
    """The vocabulary in a GGUF file does not determine the tokenizer that made it."""

    id = "APR415"
    text = "the GGUF file's tokenizer cannot be rebuilt exactly: {reason}"
    help = "give the published tokenizer with --tokenizer PATH"
    reason: str


@dataclass(kw_only=True, eq=False)
class EngineMissing(AprError):
    """The library behind a named engine is not installed."""

    id = "APR416"
    text = "the engine {engine} is not installed"
    help = "run `pip install {engine}`, or take --engine auto"
    exit_code = EXIT_NO_ANSWER
    engine: str


@dataclass(kw_only=True, eq=False)
class EngineRefuses(AprError):
    """An engine does not take this tokenizer, or fails over a text."""

    id = "APR417"
    text = "the engine {engine} refuses {what} ({reason})"
    help = "take --engine auto or --engine hf"
    engine: str
    what: str
    reason: str


@dataclass(kw_only=True, eq=False)
class EngineDiffers(AprError):
    """An engine gives other ids than the Hugging Face tokenizers library; none of its ids can be kept.

    The comparison runs over a suite of hard texts before the encoding, and over a sample of every batch during it.
    """

    id = "APR418"
    text = (
        "the engine {engine} gives other ids than HF tokenizers for {where}: "
        "{found} instead of {expected} at token {position}, near {excerpt}"
    )
    help = "take --engine auto or --engine hf, and report the text to the engine's authors"
    engine: str
    where: str
    position: int  # the first token that differs
    expected: str
    found: str
    excerpt: str
