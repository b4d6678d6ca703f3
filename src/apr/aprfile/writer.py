"""The one writer of .apr files.

Tensors are produced one at a time, when their turn comes. The digests have a fixed length, so the head is
laid out with empty ones, the data streams past, and the head is written again. Nothing takes the file's name
before every byte has been read back. The same input gives the same bytes: no time, no host, no order of a
dictionary.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from apr.aprfile.checks import Progress, Scan, scan
from apr.aprfile.errors import MetadataBad, TensorNotWritable, WrittenBytesDiffer
from apr.aprfile.index import TensorEntry
from apr.aprfile.keys import OWN_KEY, encode_metadata, parse_metadata
from apr.aprfile.layout import ALIGNMENT, DTYPES, FOOTER_BYTES, align64
from apr.aprfile.placement import Placement, TensorSource, in_index_order, pack_head, place
from apr.base.errors import CannotRead
from apr.base.files import replacing, sha256_bytes

_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenApr:
    """What was written: `file_digest` as the reader gives it, `digests` of the stored bytes by tensor."""

    path: Path
    size_bytes: int
    file_digest: str
    digests: Mapping[str, str]


def write_apr(
    path: Path,
    metadata: Mapping[str, Any],
    sources: Sequence[TensorSource],
    aliases: Mapping[str, str] | None = None,
    on_progress: Progress | None = None,
) -> WrittenApr:
    """Write an .apr file whole, or leave nothing.

    Args:
        path: the file; what stands there is replaced only at the end.
        metadata: typed keys and others; the digests are put under `apr_pretrain`.
        sources: the tensors, in any order.
        aliases: {`lm_head.weight`: `model.embed_tokens.weight`} for a tied head, which takes no bytes.
        on_progress: told the data bytes written and the data bytes in all.

    Raises:
        MetadataBad, TensorNotWritable: what should be written cannot be.
        CannotRead: a tensor's source could not be read.
        CannotWrite, WrittenBytesDiffer: the disk refused, or gave back other bytes.
    """
    path, aliases = Path(path), aliases or {}
    ordered = in_index_order(sources, aliases)
    blank = _encode(metadata, {source.name: _NO_DIGEST for source in ordered}, path)
    parse_metadata(blank, str(path))  # what the reader would refuse is not written
    placement = place(ordered, aliases, len(blank), has_vocab="tokenizer.vocabulary" in metadata)
    with replacing(path) as stream:
        stream.write(pack_head(blank, placement))
        digests = _write_data(stream, ordered, placement, on_progress)
        head = pack_head(_encode(metadata, digests, path), placement)
        stream.seek(0)
        stream.write(head)
        found = _read_back(stream, placement, path)
        _compare(found, sha256_bytes(head), digests, path)
        stream.seek(placement.end)
        stream.write(found.crc.to_bytes(FOOTER_BYTES, "little"))
    size = placement.end + FOOTER_BYTES
    return WrittenApr(path=path, size_bytes=size, file_digest=found.head_digest, digests=digests)


def _encode(metadata: Mapping[str, Any], digests: Mapping[str, str], path: Path) -> bytes:
    own = metadata.get(OWN_KEY, {})
    if not isinstance(own, Mapping):
        raise MetadataBad(path=str(path), reason=f"{OWN_KEY} is a {type(own).__name__}")
    return encode_metadata({**metadata, OWN_KEY: {**own, "digests": dict(digests)}}, str(path))


def _write_data(
    stream: BinaryIO, sources: Sequence[TensorSource], placement: Placement, on_progress: Progress | None
) -> dict[str, str]:
    total = placement.end - placement.data_offset
    digests = {}
    for source, entry in zip(sources, placement.owners, strict=True):
        content = _stored_bytes(source, entry)
        digests[entry.name] = hashlib.sha256(content).hexdigest()
        stream.write(content)
        del content  # before the next is produced: one tensor in memory at a time
        stream.write(bytes(-entry.size_bytes % ALIGNMENT))
        if on_progress is not None:
            on_progress(align64(entry.end) - placement.data_offset, total)
    return digests


def _stored_bytes(source: TensorSource, entry: TensorEntry) -> memoryview:
    try:
        array = source.produce()
    except OSError as error:  # of the source, which must not read as a full disk
        where = f"the source of tensor {source.name}"
        raise CannotRead(path=where, reason=error.strerror or str(error)) from error
    dtype = DTYPES[source.dtype]

    def demand(field: str, value: object, holds: bool, limit: object) -> None:
        if not holds:
            raise TensorNotWritable(tensor=source.name, field=field, value=str(value), limit=str(limit))

    demand("an array of", array.dtype, array.dtype == np.dtype(dtype.numpy), np.dtype(dtype.numpy))
    demand("an array of shape", array.shape, dtype.is_packed or array.shape == entry.shape, entry.shape)
    demand("bytes:", array.nbytes, array.nbytes == entry.size_bytes, f"{entry.size_bytes:,}")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _read_back(stream: BinaryIO, placement: Placement, path: Path) -> Scan:
    stream.flush()
    os.fsync(stream.fileno())
    with mmap.mmap(stream.fileno(), placement.end, access=mmap.ACCESS_READ) as mapping:
        view = memoryview(mapping)
        try:
            return scan(
                view, placement.owners, data_offset=placement.data_offset, end=placement.end, path=str(path)
            )
        finally:
            view.release()


def _compare(found: Scan, head_digest: str, digests: Mapping[str, str], path: Path) -> None:
    pairs = [("the head", head_digest, found.head_digest)]
    pairs += [(f"the tensor {name}", digest, found.digests[name]) for name, digest in digests.items()]
    for part, expected, actual in pairs:
        if expected != actual:
            raise WrittenBytesDiffer(path=str(path), part=part, expected=expected, found=actual)
