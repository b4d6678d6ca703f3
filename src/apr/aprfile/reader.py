"""The one reader of .apr files.

A file is memory-mapped and nothing is copied: tensors are views into it. Before anything is handed out, all
that the file says about itself is checked against its bytes, unless the caller names the cheaper level.
"""

from __future__ import annotations

import difflib
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Literal, NoReturn

import numpy as np

from apr.aprfile import blocks
from apr.aprfile.checks import Progress, Scan, check_padding, scan
from apr.aprfile.dialects import recognise, refuse_gguf_dialect, refuse_json_dialect
from apr.aprfile.errors import (
    DigestsIncomplete,
    FactsBad,
    FileClosed,
    FileTruncated,
    FooterChecksumWrong,
    TensorDigestWrong,
    TensorUnknown,
)
from apr.aprfile.index import TensorEntry, check_extent, packed_bytes, parse_index, resolve_ties
from apr.aprfile.keys import OWN_KEY, parse_metadata
from apr.aprfile.layout import DTYPES, FOOTER_BYTES, HEADER_BYTES, Dialect, Header, parse_header
from apr.base.errors import CannotRead
from apr.base.files import require_file, sha256_bytes

Check = Literal["full", "structure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksums:
    """What was compared on opening; `absent` means that the file carries none."""

    header: Literal["ok"]
    footer: Literal["ok", "absent", "unchecked"]
    digests: Literal["ok", "absent", "unchecked"]


class AprFile:
    """An open .apr file: what it holds, and views of its tensors. A context manager; made by `open_apr`.

    Attributes:
        path, dialect: where it is, and which of the three readable layouts it has (A, E or F).
        metadata: the JSON object of the file.
        entries: every tensor by name; a tied head has the embedding's place.
        aliases: {head: embedding} where both are one storage.
        checksums: what was compared.
        file_digest: sha256 of everything before the data, which with the digests in it stands for the file.
        size_bytes: length of the file.
    """

    def __init__(self, path: Path, mapping: mmap.mmap) -> None:
        self.path = path
        self.size_bytes = len(mapping)
        self._view: memoryview | None = memoryview(mapping)
        self._has_footer = False
        self._data_offset = self._end = 0
        self._read_structure(self._view)
        self.checksums = Checksums(
            header="ok",
            footer="unchecked" if self._has_footer else "absent",
            digests="absent" if self._digests() is None else "unchecked",
        )
        self.file_digest = sha256_bytes(self._view[: self._data_offset])

    def __enter__(self) -> AprFile:
        """Return the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    @property
    def is_ours(self) -> bool:
        """Whether the file describes itself as this program's files do."""
        return self.metadata.get(OWN_KEY) is not None

    def close(self) -> None:
        """Let go of the file; views that are still in use stay valid until they are dropped."""
        # The mapping is never unmapped by hand: numpy does not count as its user, and an array that outlives
        # the file would point nowhere. It goes with the last view.
        self._view = None

    def bytes_of(self, name: str) -> memoryview:
        """The stored bytes of a tensor, unpadded; nothing is copied.

        Raises:
            TensorUnknown, FileClosed.
        """
        entry = self._entry(name)
        if self._view is None:
            raise FileClosed(path=str(self.path), tensor=name)
        return self._view[entry.offset : entry.end]

    def array(self, name: str) -> np.ndarray:
        """A read-only view of a tensor: BF16 as uint16 bits, block-quantised types as flat bytes.

        Raises:
            TensorUnknown, FileClosed.
        """
        entry = self._entry(name)
        dtype = DTYPES[entry.dtype]
        shape = (entry.size_bytes,) if dtype.is_packed else entry.shape
        return np.ndarray(shape, dtype=dtype.numpy, buffer=self.bytes_of(name))

    def as_f32(self, name: str) -> np.ndarray:
        """A tensor's values in fp32: F32 as a view, F16 and BF16 widened exactly, Q4_K and Q6_K dequantised.

        Raises:
            TensorUnknown, FileClosed.
            TensorNotFloat: it is stored in a form that has no exact fp32 value here.
        """
        return blocks.widen(self.array(name), self._entry(name), str(self.path))

    def _entry(self, name: str) -> TensorEntry:
        entry = self.entries.get(name)
        if entry is None:
            nearest = difflib.get_close_matches(name, self.entries, n=1, cutoff=0.0)
            raise TensorUnknown(path=str(self.path), tensor=name, nearest=nearest[0] if nearest else "none")
        return entry

    def _owners(self) -> list[TensorEntry]:
        return [entry for entry in self.entries.values() if entry.name not in self.aliases]

    def _digests(self) -> Mapping[str, Any] | None:
        own = self.metadata.get(OWN_KEY)
        if own is None:
            return None
        digests = own.get("digests") if isinstance(own, dict) else own
        if not isinstance(digests, dict):
            where = f"{OWN_KEY}.digests" if isinstance(own, dict) else OWN_KEY
            self._bad(where, type(digests).__name__, "a JSON object")
        return digests

    def _bad(self, field: str, value: str, limit: str) -> NoReturn:
        raise FactsBad(path=str(self.path), field=field, value=value, limit=limit)

    def _read_structure(self, view: memoryview) -> None:
        path = str(self.path)
        self.dialect: Dialect = recognise(bytes(view[:HEADER_BYTES]), self.size_bytes, path)
        refuse_json_dialect(view, path)
        header = parse_header(bytes(view[:HEADER_BYTES]), self.size_bytes, path)
        refuse_gguf_dialect(header.flags, path)
        self.metadata = parse_metadata(bytes(view[HEADER_BYTES : HEADER_BYTES + header.metadata_size]), path)
        stored = parse_index(view[header.index_offset : header.data_offset], header, path)
        named, aliases = resolve_ties(stored, path)
        self.entries: Mapping[str, TensorEntry] = MappingProxyType(named)
        self.aliases: Mapping[str, str] = MappingProxyType(aliases)
        self._data_offset = header.data_offset
        self._end, self._has_footer = check_extent(self._owners(), self._data_offset, self.size_bytes, path)
        _check_head_padding(view, header, stored, path)
        if self.is_ours and not self._has_footer:
            # Ours always end with one, so a file without it lost its last bytes.
            needed = self._end + FOOTER_BYTES
            raise FileTruncated(path=path, part="footer", size_bytes=self.size_bytes, required_bytes=needed)

    def verify(self, on_progress: Progress | None = None) -> None:
        """Compare every byte with the footer and every tensor with its digest (what `check="full"` does).

        Raises:
            PaddingNotZero, DigestsIncomplete, TensorDigestWrong, FooterChecksumWrong, FileClosed.
        """
        if self._view is None:
            raise FileClosed(path=str(self.path), tensor="(all)")
        digests = self._digests()
        if digests is not None:
            self._check_digest_names(digests)
        found = scan(
            self._view,
            self._owners(),
            data_offset=self._data_offset,
            end=self._end,
            path=str(self.path),
            on_progress=on_progress,
        )
        self._compare(found, digests)
        self.checksums = Checksums(
            header="ok",
            footer="ok" if self._has_footer else "absent",
            digests="absent" if digests is None else "ok",
        )

    def _check_digest_names(self, digests: Mapping[str, Any]) -> None:
        owners = {entry.name for entry in self._owners()}
        if owners != set(digests):
            raise DigestsIncomplete(
                path=str(self.path),
                without_digest=", ".join(sorted(owners - set(digests))) or "none",
                without_tensor=", ".join(sorted(set(digests) - owners)) or "none",
            )

    def _compare(self, found: Scan, digests: Mapping[str, Any] | None) -> None:
        # Tensors before the footer: a digest names what is damaged, the footer only that something is.
        for name, expected in (digests or {}).items():
            if found.digests[name] != expected:
                raise TensorDigestWrong(
                    path=str(self.path), tensor=name, expected=str(expected), found=found.digests[name]
                )
        if not self._has_footer or self._view is None:
            return
        footer = int.from_bytes(self._view[self._end :], "little")
        if footer != found.crc:
            raise FooterChecksumWrong(path=str(self.path), expected=f"{footer:08x}", found=f"{found.crc:08x}")


def open_apr(path: Path, check: Check = "full", on_progress: Progress | None = None) -> AprFile:
    """Open an .apr file and check it.

    Args:
        path: the file.
        check: `full` reads every byte once; `structure` reads the header, the metadata and the index, and
            checks them and all sizes, but no data.
        on_progress: told the bytes checked and the bytes in all.

    Raises:
        FileMissing, CannotRead: it is not there, or cannot be read.
        AprError: one of `apr.aprfile.errors`, saying what is wrong with it.
    """
    if check not in ("full", "structure"):
        raise ValueError(f"check is {check!r}, not 'full' or 'structure'")
    path = Path(path)
    file = AprFile(path, _map(path))
    if check == "full":
        file.verify(on_progress)
    return file


def _map(path: Path) -> mmap.mmap:
    require_file(path, kind=".apr file", made_by="apr import")
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            if size == 0:
                recognise(b"", 0, str(path))
            mapping = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CannotRead(path=str(path), reason=error.strerror or str(error)) from error
    except ValueError as error:  # the file shrank in between
        raise CannotRead(path=str(path), reason=str(error)) from error
    if hasattr(mmap, "MADV_WILLNEED"):
        mapping.madvise(mmap.MADV_WILLNEED)
    return mapping


def _check_head_padding(
    view: memoryview, header: Header, entries: tuple[TensorEntry, ...], path: str
) -> None:
    metadata_end = HEADER_BYTES + header.metadata_size
    check_padding(view, metadata_end, header.index_offset, part="the metadata", path=path)
    index_end = header.index_offset + sum(packed_bytes(entry) for entry in entries)
    check_padding(view, index_end, header.data_offset, part="the index", path=path)
