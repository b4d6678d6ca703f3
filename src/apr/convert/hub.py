"""Checkpoints from the Hugging Face hub: downloaded by its own client, at one commit, and held against its hashes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, snapshot_download

from apr.base.errors import CannotRead
from apr.convert.errors import HubLocationBad, HubUnavailable

SCHEME = "hf://"
# Only what an import reads. The patterns are anchored at the top folder, so that a copy in another format
# (onnx/, ...) is not downloaded.
PATTERNS = (
    "config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "README.md",
)
_LOCATION = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_S = 30.0  # for the list of hashes; the weights are here already


@dataclass(frozen=True, slots=True, kw_only=True)
class HubHash:
    """What the hub lists for a file: its sha256 where it is stored apart (LFS), else the id of its git blob."""

    kind: Literal["sha256", "git blob id"]
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubHashes:
    """The hashes of a commit, by file name; `not_asked` is the error for which there are none."""

    files: Mapping[str, HubHash]
    not_asked: str | None = None


def download(location: str) -> tuple[Path, str]:
    """Download a checkpoint, or find it in the hub's cache; a download that was cut off continues.

    Args:
        location: `hf://organisation/name`, with `@revision` for a branch, a tag or a commit.

    Returns:
        The folder, and the commit that the revision stood for.

    Raises:
        HubLocationBad: the location is spelled otherwise.
        HubUnavailable: no network, no such checkpoint, or no access.
    """
    repo, revision = _parse(location)
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(PATTERNS)))
    # The client's errors have no root of their own: some are OSErrors, some ValueErrors, some bare
    # Exceptions, and a missing network is an error of whichever HTTP library the release uses. Nothing of
    # ours runs inside the call.
    except Exception as error:
        raise HubUnavailable(location=location, reason=_first_line(error)) from error
    if not _COMMIT.fullmatch(folder.name):
        raise HubUnavailable(
            location=location, reason=f"its commit is not known, the client gave {folder.name}"
        )
    return folder, folder.name


def published_hashes(location: str, commit: str) -> HubHashes:
    """Ask the hub which hash each file of a commit has.

    A download that was found in the cache is not compared with anything by the client. Where the hub cannot be
    asked the cache may still be good, so that is said and not raised.

    Args:
        location: as for `download`.
        commit: what `download` gave.

    Raises:
        HubLocationBad: the location is spelled otherwise.
    """
    repo, _ = _parse(location)
    try:
        info = HfApi().model_info(repo, revision=commit, files_metadata=True, timeout=_TIMEOUT_S)
    except Exception as error:  # as in `download`
        # Its name and not its text, which holds the id of the request: the same import gives the same bytes.
        return HubHashes(files={}, not_asked=type(error).__name__)
    listed = {sibling.rfilename: _hub_hash(sibling) for sibling in info.siblings or ()}
    return HubHashes(files={name: found for name, found in listed.items() if found is not None})


def _hub_hash(sibling: Any) -> HubHash | None:
    if sibling.lfs is not None:  # its blob is the pointer, not the content
        return HubHash(kind="sha256", value=sibling.lfs.sha256)
    return HubHash(kind="git blob id", value=sibling.blob_id) if sibling.blob_id else None


def git_blob_id(path: Path) -> str:
    """The id that git gives a file's content.

    Raises:
        CannotRead: it is not there any more, or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _parse(location: str) -> tuple[str, str | None]:
    match = _LOCATION.fullmatch(location)
    if match is None:
        raise HubLocationBad(location=location)
    return match[1], match[2]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
