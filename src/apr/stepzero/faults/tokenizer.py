"""Faults of the tokenizer: in the model file, or in the file and the shards alike, so that they agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apr.aprfile.reader import open_apr
from apr.base.files import canonical_json, sha256_bytes
from apr.stepzero.faults.aprfiles import Contents, rewritten
from apr.stepzero.faults.datasets import edit_manifest
from apr.stepzero.faults.fault import MODEL, SHARDS, Fault
from apr.tokenizer.definition import TokenizerDefinition

Document = dict[str, Any]


def _fault(
    name: str, gate: str, says: str, edit: Callable[[Path], None], imitates: tuple[str, ...], **more: Any
) -> Fault:
    return Fault(
        id=f"tokenizer.{name}", imitates=imitates, place="tokenizer", gate=gate, says=says, edit=edit, **more
    )


def _in_file(edit: Callable[[Contents], None]) -> Callable[[Path], None]:
    return lambda scene: rewritten(scene / MODEL, edit)


def _retold(contents: Contents, change: Callable[[Document], None]) -> None:
    """Change tokenizer.json, and every digest of it that the file holds."""
    document = json.loads(contents.own["tokenizer_json"])
    change(document)
    text = json.dumps(document, ensure_ascii=False)
    contents.own["tokenizer_json"] = text
    contents.own["tokenizer_json_sha256"] = sha256_bytes(text.encode())
    for key, value in contents.own["tokenizer"].items():
        if isinstance(value, str) and len(value) == 64:
            contents.own["tokenizer"][key] = contents.own["tokenizer_json_sha256"]


def _with_shards(change: Callable[[Document], None]) -> Callable[[Path], None]:
    """Change the tokenizer in the model file, and say in the shards' manifests that this one made them."""

    def edit(scene: Path) -> None:
        def retell(contents: Contents) -> None:
            _retold(contents, change)

        rewritten(scene / MODEL, retell)
        digest = _digest_of(scene / MODEL)
        for folder in (scene / SHARDS, scene / SHARDS / "val"):
            edit_manifest(folder, tokenizer_sha256=digest)

    return edit


def _digest_of(path: Path) -> str:
    """The tokenizer's identity as a definition has it."""
    with open_apr(path, "structure") as file:
        own = file.metadata["apr_pretrain"]
        return TokenizerDefinition.from_dict(own["tokenizer"], own["tokenizer_json"]).sha256


def _exchange_ids(document: Document) -> None:
    vocab = document["model"]["vocab"]
    names = sorted(vocab, key=vocab.get)
    a, b = names[len(names) // 2], names[len(names) // 2 + 1]
    vocab[a], vocab[b] = vocab[b], vocab[a]


def _shift_ids(document: Document) -> None:
    """Every ordinary token takes the next one's id."""
    vocab, added = document["model"]["vocab"], {entry["id"] for entry in document.get("added_tokens", [])}
    names = [name for name in sorted(vocab, key=vocab.get) if vocab[name] not in added]
    ids = [vocab[name] for name in names]
    vocab.update(zip(names, ids[1:] + ids[:1], strict=True))


def _fewer_merges(document: Document) -> None:
    del document["model"]["merges"][len(document["model"]["merges"]) // 2 :]


def _split_at_spaces(document: Document) -> None:
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, _BYTES]}


_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def _lower_case(document: Document) -> None:
    before = document.get("normalizer")
    steps = [{"type": "Lowercase"}] + ([before] if before else [])
    document["normalizer"] = {"type": "Sequence", "normalizers": steps}


def _space_before(document: Document) -> None:
    before = document.get("pre_tokenizer")
    document["normalizer"] = {"type": "Prepend", "prepend": " "}
    document["pre_tokenizer"] = before


def _wrong_eos(contents: Contents) -> None:
    for key in ("end_of_text_id", "eos_token_id"):
        if key in contents.own["tokenizer"]:
            contents.own["tokenizer"][key] = 7


def _edited_text(contents: Contents) -> None:
    contents.own["tokenizer_json"] = contents.own["tokenizer_json"].replace('"merges"', '"merges" ', 1)


def _no_tokenizer(contents: Contents) -> None:
    for key in ("tokenizer_json", "tokenizer_json_sha256", "tokenizer"):
        contents.own[key] = None


def _other_rows(scene: Path) -> None:
    """The manifest's name for the tokenizer, alone, is another one's."""
    for folder in (scene / SHARDS, scene / SHARDS / "val"):
        edit_manifest(folder, tokenizer_sha256=sha256_bytes(canonical_json("another tokenizer")))


TOKENIZER_FAULTS: tuple[Fault, ...] = (
    _fault("edited", "tokens.tokenizer", "a space in tokenizer.json had been changed", _in_file(_edited_text), ("S-23",),
           quick=True),
    _fault("ids-exchanged", "tokens.tokenizer", "two tokens of the model's tokenizer had changed ids",
           _in_file(lambda c: _retold(c, _exchange_ids)), ("S-18", "S-23")),
    _fault("none", "tokens.tokenizer", "the checkpoint had lost its tokenizer", _in_file(_no_tokenizer), ("S-82",)),
    _fault("other-shards", "tokens.tokenizer", "the shards named another tokenizer", _other_rows, ("S-23",), quick=True),
    _fault("wrong-eos", "tokens.eos", "the end-of-text id was that of another token", _in_file(_wrong_eos), ("S-19",)),
    _fault("ids-shifted-everywhere", "tokens.probe", "every id was off by one, in a tokenizer that the shards named too",
           _with_shards(_shift_ids), ("S-16", "S-18")),
    _fault("merges-lost-everywhere", "tokens.sample", "half of the merges were missing, in a tokenizer that the shards named too",
           _with_shards(_fewer_merges), ("S-18",), quick=True),
    _fault("spaces-lost-everywhere", "tokens.sample", "text was split at spaces, which were lost with the indentation",
           _with_shards(_split_at_spaces), ("S-22",)),
    _fault("lower-case-everywhere", "tokens.probe", "a normalizer made everything lower case",
           _with_shards(_lower_case), ("S-18",)),
    _fault("space-before-everywhere", "tokens.probe", "a space was put before every text", _with_shards(_space_before),
           ("S-18",)),
)  # fmt: skip
