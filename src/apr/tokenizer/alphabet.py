"""The byte alphabet of byte-level BPE: one printable character for each byte (Radford et al. 2019, GPT-2)."""

from __future__ import annotations

# Bytes that stand for themselves; the others are numbered from 256 in order, so that no symbol is a space
# or a control character.
_SELF = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
# Bytes that no UTF-8 text holds: a vocabulary without them loses nothing.
NOT_IN_UTF8 = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})


def byte_symbols() -> tuple[str, ...]:
    """The 256 characters, by byte."""
    others = {byte: 256 + index for index, byte in enumerate(b for b in range(256) if b not in _SELF)}
    return tuple(chr(others.get(byte, byte)) for byte in range(256))
