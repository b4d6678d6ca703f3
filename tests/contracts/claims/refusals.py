"""FALSIFY-APR-PRETRAIN-INIT-003 to -005: files that are refused before anything is allocated."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from apr.aprfile.errors import (
    ArchContradiction,
    FactsBad,
    FileTruncated,
    MetadataContradiction,
    NotAprFile,
    TensorOutOfBounds,
)
from apr.aprfile.keys import OWN_KEY
from apr.aprfile.layout import header_checksum
from apr.arch.config import TransformerConfig
from apr.arch.errors import ArchitectureUnsupported, ArchMismatch, ConfigFieldMissing
from apr.base.errors import FileMissing
from contracts.scene import Scene, Words, foreign_keys, require_refusal, stamped_as, write_foreign
from tiny import CONFIG, make_model, make_weights


def missing_file_is_refused(scene: Scene) -> None:
    """INIT-003: nothing, a folder and a dangling link are each refused before any allocation, named, with an id."""
    nothing, folder, link = scene.new("absent.apr"), scene.new("folder.apr"), scene.new("link.apr")
    folder.mkdir()
    link.symlink_to(nothing)
    for path in (nothing, folder, link):
        # --arch agrees with the run that a fallback to random weights would make.
        require_refusal(
            scene, "--init", path, "--arch", scene.arch, id=FileMissing.id, code=2, says=(str(path),), steps=1
        )


def with_magic(content: bytes, magic: bytes) -> bytes:
    """A file that is whole but for its magic: only that stands between it and a run."""
    head = magic + content[4:64]
    head = head[:40] + header_checksum(head).to_bytes(4, "little") + head[44:]
    body = head + content[64:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def damaged_starts(scene: Scene) -> dict[str, tuple[bytes, str]]:
    """Files with a wrong magic, empty or short ones, with the id that each is refused by."""
    content = scene.model.read_bytes()
    foreign = {"a wrong magic": with_magic(content, b"XYZ\0"), "GGUF": with_magic(content, b"GGUF")}
    foreign |= {"empty": b"", "zeros": bytes(4096), "one byte": b"A", "text": b"not a model\n" * 99}
    short = {"half a header": content[:32], "a header": content[:64], "no footer": content[:-4]}
    named = {name: (raw, NotAprFile.id) for name, raw in foreign.items()}
    named |= {name: (raw, FileTruncated.id) for name, raw in short.items()}
    return named | {"half": (content[: len(content) // 2], TensorOutOfBounds.id)}


def wrong_magic_is_refused(scene: Scene) -> None:
    """INIT-004: a wrong magic, an empty and a short file are refused before any allocation."""
    for name, (content, id) in damaged_starts(scene).items():
        path = scene.write_bytes(content)
        try:
            require_refusal(scene, "--init", path, "--arch", scene.arch, id=id, says=(str(path),), steps=1)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


# A shape, what it is said to be, and what a refusal must name: the field, the value there, the tensors' value.
LIES: dict[str, tuple[int, tuple[Any, ...]]] = {
    "vocab_size": (352, ("vocab_size", 352, 320)),
    "hidden_size": (96, ("hidden_size", 96, 64)),
    "num_attention_heads": (8, ("num_attention_heads", 128, 64)),  # heads times their width
    "num_key_value_heads": (4, ("num_key_value_heads", 64, 32)),
    "intermediate_size": (128, ("intermediate_size", 128, 256)),
    "num_hidden_layers": (3, ("num_hidden_layers", 3, 2)),
}

Case = tuple[Path, str, tuple[Words, ...]]  # a file, the id of its refusal, what the refusal must say


def lying_model(scene: Scene, **lies: Any) -> Path:
    edit = stamped_as(replace(CONFIG, **lies))
    return make_model(scene.new("lying.apr"), tokenizer=scene.tokenizer, oracle="none", edit_metadata=edit)


def edited_model(scene: Scene, edit: Callable[[dict[str, Any]], None]) -> Path:
    return make_model(scene.new("edited.apr"), tokenizer=scene.tokenizer, oracle="none", edit_metadata=edit)


def missing_architectures(scene: Scene) -> list[Case]:
    """Files that do not say what they are."""

    def drop_config(metadata: dict[str, Any]) -> None:
        del metadata[OWN_KEY]["config"]

    def drop_fields(metadata: dict[str, Any]) -> None:
        for name in ("hidden_size", "rope_theta"):
            del metadata[OWN_KEY]["config"][name]

    unstamped = {key: value for key, value in foreign_keys(CONFIG).items() if "architecture" not in key}
    unstamped.pop("hf_model_type")
    return [
        (edited_model(scene, drop_config), FactsBad.id, (f"{OWN_KEY}.config",)),
        (edited_model(scene, drop_fields), ConfigFieldMissing.id, ("hidden_size, rope_theta",)),
        (
            write_foreign(scene.new("unstamped.apr"), unstamped, make_weights(CONFIG)),
            ConfigFieldMissing.id,
            ("architecture",),
        ),
    ]


def bogus_architectures(scene: Scene) -> list[Case]:
    """Files that claim to be what no decoder here is."""

    def mamba(metadata: dict[str, Any]) -> None:
        metadata[OWN_KEY]["config"]["family"] = "mamba"

    stamp = {
        "architecture": "MambaForCausalLM",
        "hf_architecture": "MambaForCausalLM",
        "hf_model_type": "mamba",
    }
    foreign = write_foreign(scene.new("mamba.apr"), foreign_keys(CONFIG) | stamp, make_weights(CONFIG))
    return [
        (edited_model(scene, mamba), ArchitectureUnsupported.id, ("mamba",)),
        (foreign, ArchitectureUnsupported.id, ("MambaForCausalLM",)),
    ]


def mismatching_architectures(scene: Scene) -> list[Case]:
    """Files that say another shape than their tensors have, or two things at once."""
    cases: list[Case] = []
    for name, (lie, words) in LIES.items():
        cases.append((lying_model(scene, **{name: lie}), ArchContradiction.id, (words,)))
    several = ("vocab_size", "intermediate_size", "num_hidden_layers")
    path = lying_model(scene, **{name: LIES[name][0] for name in several})
    cases.append((path, ArchContradiction.id, tuple(LIES[name][1] for name in several)))

    def two_positions(metadata: dict[str, Any]) -> None:
        metadata["max_position_embeddings"] = 2048

    # No tensor shows the positions: there the file can only contradict itself.
    words = ("max_position_embeddings", 2048, 512)
    return [*cases, (edited_model(scene, two_positions), MetadataContradiction.id, (words,))]


def bad_architecture_is_refused(scene: Scene) -> None:
    """INIT-005: a missing, bogus or mismatching architecture is refused, every field named with both values."""
    cases = [*missing_architectures(scene), *bogus_architectures(scene), *mismatching_architectures(scene)]
    for path, id, says in cases:
        require_refusal(scene, "--init", path, id=id, says=(str(path), *says), steps=1)
    other = replace(
        CONFIG, vocab_size=352, hidden_size=96, num_hidden_layers=3, rope_theta=5e5, tie_word_embeddings=False
    )
    says = tuple((name, getattr(other, name), getattr(CONFIG, name)) for name in changed_fields(other))
    arch = scene.write_arch(other)
    require_refusal(scene, "--init", scene.model, "--arch", arch, id=ArchMismatch.id, says=says, steps=1)


def changed_fields(config: TransformerConfig) -> list[str]:
    return [name for name, value in config.to_dict().items() if value != CONFIG.to_dict()[name]]
