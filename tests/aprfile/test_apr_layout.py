"""Sizes, codes, header bytes and checksum arithmetic."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.aprfile import errors
from apr.aprfile.checks import join_crc
from apr.aprfile.layout import CODES, DTYPES, Header, align64, pack_header, parse_header, stored_sizes
from apr.base.errors import known_errors

HEADER = Header(flags=0x0400, tensor_count=3, metadata_size=100, index_offset=192, data_offset=320)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_crc_of_two_pieces_is_that_of_the_whole(first: bytes, second: bytes) -> None:
    assert join_crc(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


def test_crc_joins_over_a_length_beyond_32_bits() -> None:
    # Zeros appended in two steps or in one are the same zeros.
    length = (1 << 33) + 12345
    zero = lambda count: zlib.crc32(bytes(count))  # noqa: E731
    once = join_crc(zero(7), 0, length + 5)
    twice = join_crc(join_crc(zero(7), 0, length), 0, 5)
    assert once == twice


@pytest.mark.parametrize(("size", "aligned"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_align64(size: int, aligned: int) -> None:
    assert align64(size) == aligned


@pytest.mark.parametrize(
    ("name", "code", "elements", "size"),
    [
        ("F32", 0, 10, 40),
        ("F16", 1, 10, 20),
        ("BF16", 30, 10, 20),
        ("F64", 3, 10, 80),
        ("I32", 4, 10, 40),
        ("I64", 5, 10, 80),
        ("I8", 6, 10, 10),
        ("U8", 7, 10, 10),
        ("Q4_K", 12, 257, 288),
        ("Q6_K", 14, 256, 210),
        ("AprQ4", 128, 33, 36),
        ("AprQ8", 129, 10, 14),
    ],
)
def test_dtype_codes_and_sizes(name: str, code: int, elements: int, size: int) -> None:
    assert DTYPES[name].code == code
    assert CODES[code].name == name
    assert DTYPES[name].size_bytes(elements) == size


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((512,), (288,)), ((2, 256), (288,)), ((3, 100), (288, 432)), ((), (144,))],
)
def test_k_quants_of_uneven_rows_have_two_sizes(shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    assert stored_sizes(DTYPES["Q4_K"], shape) == sizes


def test_header_bytes_are_those_of_the_description() -> None:
    raw = pack_header(HEADER)
    assert raw[:40].hex() == (
        "415052000200000403000000400000000000000064000000c0000000000000004001000000000000"
    )
    assert raw[40:44] == zlib.crc32(raw[:40] + bytes(20)).to_bytes(4, "little")
    assert raw[44:] == bytes(20)


def test_header_reads_back() -> None:
    assert parse_header(pack_header(HEADER), 1 << 20, "x") == HEADER


def test_error_ids_stay_in_the_band_of_the_room() -> None:
    ours = [cls for cls in known_errors().values() if cls.__module__ == errors.__name__]
    assert len(ours) > 25
    for cls in ours:
        assert "APR201" <= cls.id <= "APR239"
        assert cls.__doc__
