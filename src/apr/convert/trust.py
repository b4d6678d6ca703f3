"""What says that the files of a checkpoint are the ones that are meant.

An import proves that a file is taken over whole, not that it is the right one: weights that were wrong before
they were hashed are imported as they are. Only a digest from elsewhere tells: the caller's, a manifest, or the
hub's own list. Which there was, and what it did not cover, is recorded in the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from apr.base.errors import BadOption
from apr.convert.checkpoint import CheckpointSource, SourceFile
from apr.convert.errors import (
    DigestUnexpected,
    FilesNotListed,
    HubHashDiffers,
    ListedFilesMissing,
    SeveralWeightFiles,
)
from apr.convert.hub import PATTERNS, SCHEME, HubHashes, git_blob_id, published_hashes
from apr.convert.manifest import SHA256, Manifest

Root = Literal["manifest", "sha256", "hub", "first use"]
_WEIGHTS = (".safetensors", ".gguf")
# Without one of these an import goes on, and decides otherwise: another end token, no tokenizer.
_DECIDING = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    "generation_config.json",
)
_COVERED = {
    "manifest": "the manifest lists the sha256 of every file that was read",
    "sha256": "the weights have the sha256 that was given",
    "hub": "the hub lists the same hashes for the commit",
}
_FIRST_USE = (
    "nothing outside these files says what they should be: a well-formed file whose content was already wrong is "
    "imported as it is; give --expect-sha256 or --manifest"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the weights were held against, which files that covers, and what it means in a sentence."""

    root: Root
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    says: str

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**asdict(self), "checked": list(self.checked), "unchecked": list(self.unchecked)}


def parse_sha256(text: str) -> str:
    """Read the value of --expect-sha256.

    Raises:
        BadOption: it is not 64 hexadecimal digits.
    """
    if not SHA256.fullmatch(text):
        raise BadOption(option="--expect-sha256", value=text, limit="64 hexadecimal digits")
    return text.lower()


def establish_trust(
    source: CheckpointSource,
    location: str,
    *,
    expect_sha256: str | None = None,
    manifest: Manifest | None = None,
) -> Trust:
    """Hold every file of a source against what is known of it from elsewhere.

    Args:
        source: an open source, whose files are hashed.
        location: what it was opened from; the hub is asked about a source of its own.
        expect_sha256: what the one file of weights must have, in lower case.
        manifest: what every file must have.

    Raises:
        DigestUnexpected, HubHashDiffers: a file is another one.
        FilesNotListed, ListedFilesMissing: manifest and source are not about the same files.
        SeveralWeightFiles: `expect_sha256` cannot be meant.
    """
    checked: set[str] = set()
    if expect_sha256 is not None:
        checked |= _check_weights(source, expect_sha256)
    if manifest is not None:
        checked |= _check_manifest(source, manifest, location)
    hub = _ask_hub(source, location)
    if hub is not None:
        checked |= _check_hub(source, hub, location)
    weights = {file.name for file in source.files if file.name.endswith(_WEIGHTS)}
    root: Root = "first use"
    if manifest is not None:
        root = "manifest"
    elif expect_sha256 is not None:
        root = "sha256"
    elif hub is not None and weights <= checked:
        root = "hub"
    unchecked = tuple(sorted({file.name for file in source.files} - checked))
    says = _sentence(root, unchecked, hub)
    return Trust(root=root, checked=tuple(sorted(checked)), unchecked=unchecked, says=says)


def _check_weights(source: CheckpointSource, expected: str) -> set[str]:
    weights = [file for file in source.files if file.name.endswith(_WEIGHTS)]
    if len(weights) != 1:
        names = _few(file.name for file in weights)
        raise SeveralWeightFiles(location=source.location, count=len(weights), files=names)
    _require_digest(source, weights[0], expected, "--expect-sha256")
    return {weights[0].name}


def _require_digest(source: CheckpointSource, file: SourceFile, expected: str, said_by: str) -> None:
    if file.sha256 != expected:
        raise DigestUnexpected(
            location=source.location, file=file.name, found=file.sha256, said_by=said_by, expected=expected
        )


def _check_manifest(source: CheckpointSource, manifest: Manifest, location: str) -> set[str]:
    listed = manifest.digests
    if unlisted := [file.name for file in source.files if file.name not in listed]:
        raise FilesNotListed(manifest=manifest.path, location=source.location, files=_few(unlisted))
    if missing := [name for name in listed if _is_missing(name, source, location)]:
        raise ListedFilesMissing(manifest=manifest.path, location=source.location, files=_few(missing))
    for file in source.files:
        _require_digest(source, file, listed[file.name], manifest.path)
    return {file.name for file in source.files}


def _is_missing(name: str, source: CheckpointSource, location: str) -> bool:
    """Whether a listed name is a file that an import reads, and that should lie in the folder and does not."""
    is_hub = location.startswith(SCHEME)
    folder = Path(source.location if is_hub else location)
    is_read = name.endswith(_WEIGHTS) or name in _DECIDING
    if not is_read or "/" in name or not folder.is_dir():
        return False  # one file that was named needs no other
    if is_hub and not any(fnmatch(name, pattern) for pattern in PATTERNS):
        return False  # a copy of the weights in another form, which is not downloaded
    return not (folder / name).is_file()


def _ask_hub(source: CheckpointSource, location: str) -> HubHashes | None:
    commit = next((file.revision for file in source.files if file.revision), None)
    return published_hashes(location, commit) if commit and location.startswith(SCHEME) else None


def _check_hub(source: CheckpointSource, hub: HubHashes, location: str) -> set[str]:
    checked = set()
    for file in source.files:
        said = hub.files.get(file.name)
        if said is None or file.revision is None:  # without a revision it is not the hub's, but the caller's
            continue
        is_blob = said.kind == "git blob id"
        found = git_blob_id(Path(source.location) / file.name) if is_blob else file.sha256
        if found != said.value:
            raise HubHashDiffers(
                location=location, file=file.name, kind=said.kind, found=found, expected=said.value
            )
        checked.add(file.name)
    return checked


def _sentence(root: Root, unchecked: tuple[str, ...], hub: HubHashes | None) -> str:
    said = [] if hub is None or hub.not_asked is None else [f"the hub was not asked ({hub.not_asked})"]
    if root == "first use":
        if hub is not None and hub.not_asked is None:
            said.append(f"the hub gives no hash of {_few(unchecked)}")
        return "; ".join([*said, _FIRST_USE])
    said.append(_COVERED[root])
    if unchecked:
        said.append(f"nothing says what {_few(unchecked)} should be, which --manifest can")
    return "; ".join(said)


def _few(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:3]) + (f" and {len(every) - 3:,} more" if len(every) > 3 else "")
