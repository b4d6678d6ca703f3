"""TokenizerDefinition: a tokenizer as a value that travels with a checkpoint.

The tokenizer.json is kept as its text, byte for byte, because its digest is what a certificate names. The ids
beside it are what that text does not say: which token ends a document, and why it was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apr.base.errors import CannotRead
from apr.base.files import read_json, require_file, sha256_bytes, write_bytes, write_json
from apr.tokenizer.errors import SpecialTokenBad, TokenizerChanged, TokenizerNotLoadable
from apr.tokenizer.special import (
    choose_end_of_text,
    declared_ids,
    parse_document,
    require_declared_added,
    vocabulary,
)

TOKENIZER_FILE = "tokenizer.json"
SPECIAL_IDS_FILE = "tokenizer_apr.json"
_IDS = ("end_of_text_id", "bos_token_id", "eos_token_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerDefinition:
    """A tokenizer.json and the special ids that belong to it."""

    json_text: str
    end_of_text_id: int | None  # the document separator; None where nothing declares one
    end_of_text_reason: str  # the rule that chose it
    bos_token_id: int | None  # as the source declares it
    eos_token_id: int | None  # as the source declares it; in a chat model it ends a turn

    @property
    def sha256(self) -> str:
        """Digest of the tokenizer.json's UTF-8 bytes."""
        return sha256_bytes(self.json_text.encode())

    def to_dict(self) -> dict[str, Any]:
        """The special ids as JSON values, with the digest of the text they belong to."""
        ids = {name: getattr(self, name) for name in _IDS}
        return {**ids, "end_of_text_reason": self.end_of_text_reason, "sha256": self.sha256}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], json_text: str) -> TokenizerDefinition:
        """Put the special ids and their tokenizer.json together again.

        Args:
            values: what `to_dict` gave.
            json_text: the tokenizer.json.

        Raises:
            SpecialTokenBad: a field is missing, unknown or of another type.
            TokenizerChanged: the ids were recorded for another text.
        """
        _check_special_ids(values)
        definition = cls(
            json_text=json_text, **{name: values[name] for name in (*_IDS, "end_of_text_reason")}
        )
        if values["sha256"] != definition.sha256:
            raise TokenizerChanged(recorded=values["sha256"][:12], found=definition.sha256[:12])
        return definition


def _check_special_ids(values: Mapping[str, Any]) -> None:
    wanted = {*_IDS, "end_of_text_reason", "sha256"}
    for name in sorted(wanted ^ set(values)):
        found, limit = ("unknown", "left out") if name in values else ("missing", "there")
        raise SpecialTokenBad(source="the special ids", field=name, value=found, limit=limit)
    for name in sorted(wanted):
        value = values[name]
        is_good = value is None or type(value) is int if name in _IDS else isinstance(value, str)
        if not is_good:
            limit = "an id or null" if name in _IDS else "text"
            raise SpecialTokenBad(source="the special ids", field=name, value=repr(value)[:80], limit=limit)


def make_definition(
    json_text: str,
    *,
    bos_token_id: int | None,
    eos_token_id: int | None,
    end_of_text: str | None = None,
    source: str,
) -> TokenizerDefinition:
    """Make a definition, choosing the document separator by the rule of `apr.tokenizer.special`.

    Args:
        json_text: the tokenizer.json.
        bos_token_id: the id its source declares, or None.
        eos_token_id: the id its source declares, or None.
        end_of_text: the separator's text where the caller names it.
        source: what the tokenizer is called in an error.

    Raises:
        TokenizerNotLoadable, TokenUnknown, EndOfTextAmbiguous: see `choose_end_of_text`.
    """
    document = parse_document(json_text, source)
    chosen, reason = choose_end_of_text(document, named=end_of_text, eos_token_id=eos_token_id, source=source)
    return TokenizerDefinition(
        json_text=json_text,
        end_of_text_id=chosen,
        end_of_text_reason=reason,
        bos_token_id=bos_token_id,
        eos_token_id=eos_token_id,
    )


def with_end_of_text(definition: TokenizerDefinition, token_text: str) -> TokenizerDefinition:
    """The same tokenizer with the document separator that the caller names.

    Raises:
        TokenizerNotLoadable, TokenUnknown: the text is not a tokenizer.json, or does not hold that token.
    """
    document = parse_document(definition.json_text, "the definition")
    chosen, reason = choose_end_of_text(
        document, named=token_text, eos_token_id=None, source="the definition"
    )
    return replace(definition, end_of_text_id=chosen, end_of_text_reason=reason)


def load_definition(path: Path, *, end_of_text: str | None = None) -> TokenizerDefinition:
    """Read a tokenizer from a folder or from a tokenizer.json.

    A folder's tokenizer_apr.json (written by `save_definition`) settles the ids; without one they come from
    the published files beside tokenizer.json. A file alone declares no bos and no eos.

    Args:
        path: the folder, or the file.
        end_of_text: the document separator's text where the caller names it; it comes before every rule.

    Raises:
        FileMissing, CannotRead, BadJson: a file is not there or cannot be read.
        TokenizerNotLoadable, TokenUnknown, SpecialTokenBad, AddedTokenMoved, EndOfTextAmbiguous,
        TokenizerChanged: what is in them does not agree.
    """
    if not path.is_dir():
        text = _read_text(path)
        return make_definition(
            text, bos_token_id=None, eos_token_id=None, end_of_text=end_of_text, source=str(path)
        )
    text = _read_text(path / TOKENIZER_FILE)
    if (path / SPECIAL_IDS_FILE).is_file():
        recorded = TokenizerDefinition.from_dict(read_json(path / SPECIAL_IDS_FILE), text)
        return recorded if end_of_text is None else with_end_of_text(recorded, end_of_text)
    known = vocabulary(parse_document(text, str(path)), str(path))
    require_declared_added(path, known)
    return make_definition(text, **declared_ids(path, known), end_of_text=end_of_text, source=str(path))


def save_definition(definition: TokenizerDefinition, folder: Path) -> None:
    """Write tokenizer.json, byte for byte, and tokenizer_apr.json into a folder, which is made if need be.

    Raises:
        CannotWrite: the operating system refused.
    """
    write_bytes(folder / TOKENIZER_FILE, definition.json_text.encode())
    write_json(folder / SPECIAL_IDS_FILE, definition.to_dict())


def _read_text(path: Path) -> str:
    require_file(path, kind=TOKENIZER_FILE, made_by="apr tokenize import-hf")
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise TokenizerNotLoadable(source=str(path), reason="it is not UTF-8") from error
