"""Damaged and crafted files: always one of our errors, never another, never a wrong yes."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.aprfile import errors
from apr.aprfile.metadata import read_facts
from apr.aprfile.reader import open_apr
from apr.base.errors import AprError

Craft = Callable[..., Path]
A, B = {"name": "a", "values": (1.0, 2.0)}, {"name": "b", "values": (3.0,)}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def tiny_bytes(tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> bytes:
    path = tmp_path_factory.mktemp("tiny") / "tiny.apr"
    write_tiny(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "x.apr"


def _places(raw: bytes) -> dict[str, int]:
    """A byte of each part of a file, by the part's name."""
    metadata_size, index_at, data_at = struct.unpack_from("<IQQ", raw, 20)
    first_name_length = struct.unpack_from("<H", raw, index_at)[0]
    tensor_size = struct.unpack_from("<Q", raw, index_at + 2 + first_name_length + 2 + 16 + 8)[0]
    return {
        "magic": 3,
        "version": 4,
        "flags": 6,
        "tensor count": 8,
        "metadata offset": 12,
        "metadata size": 20,
        "index offset": 24,
        "data offset": 32,
        "header checksum": 40,
        "reserved": 50,
        "metadata": 64 + metadata_size // 2,
        "metadata padding": 64 + metadata_size,
        "name length": index_at,
        "name": index_at + 3,
        "index": index_at + 40,
        "index padding": data_at - 1,
        "data": data_at + 5,
        "data padding": data_at + tensor_size,
        "footer": len(raw) - 2,
    }


PARTS = [
    *("magic", "version", "flags", "tensor count", "metadata offset", "metadata size", "index offset"),
    *("data offset", "header checksum", "reserved", "metadata", "metadata padding", "name length", "name"),
    *("index", "index padding", "data", "data padding", "footer"),
]


@pytest.mark.parametrize("part", PARTS)
def test_a_flipped_byte_is_refused(tiny_bytes: bytes, scratch: Path, part: str) -> None:
    at = _places(tiny_bytes)[part]
    scratch.write_bytes(tiny_bytes[:at] + bytes([tiny_bytes[at] ^ 0x41]) + tiny_bytes[at + 1 :])
    with pytest.raises(AprError):
        open_apr(scratch)


def test_places_lie_where_they_are_said_to(tiny_bytes: bytes) -> None:
    places = _places(tiny_bytes)
    assert sorted(places) == sorted(PARTS)
    for padding in ("metadata padding", "index padding", "data padding", "reserved"):
        assert tiny_bytes[places[padding]] == 0


@settings(max_examples=400, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_any_flipped_byte_is_refused_by_name(
    tiny_bytes: bytes, scratch: Path, where: float, mask: int
) -> None:
    at = int(where * len(tiny_bytes))
    scratch.write_bytes(tiny_bytes[:at] + bytes([tiny_bytes[at] ^ mask]) + tiny_bytes[at + 1 :])
    with pytest.raises(AprError):
        open_apr(scratch)
    try:  # the cheaper level may miss it, and must not stumble over it either
        with open_apr(scratch, "structure") as file:
            read_facts(file)
    except AprError:
        pass


def test_every_flipped_byte_of_a_foreign_file_is_refused(craft: Craft) -> None:
    path = craft([A, B], {"model_type": "x", "architecture": "llama"})
    raw = path.read_bytes()
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x20]) + raw[at + 1 :])
        with pytest.raises(AprError):
            open_apr(path)


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200), magic=st.sampled_from([b"", b"APR\0\2\0", b"APR2\2\0", b"APRN\2\0"]))
def test_noise_is_refused_by_name(scratch: Path, raw: bytes, magic: bytes) -> None:
    scratch.write_bytes(magic + raw)
    with pytest.raises(AprError):
        open_apr(scratch)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 1 << 32), checksum=st.booleans())
def test_a_scrambled_head_under_a_right_checksum_is_refused_or_read(
    tiny_bytes: bytes, scratch: Path, seed: int, checksum: bool
) -> None:
    chance, raw = random.Random(seed), bytearray(tiny_bytes)
    data_at = struct.unpack_from("<Q", raw, 32)[0]
    for _ in range(chance.randint(1, 6)):
        # Fields of the header and the index, which the checksums would hide from the tests above.
        at = chance.choice([chance.randrange(6, 40), chance.randrange(64, data_at)])
        raw[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    raw[40:44] = struct.pack("<I", zlib.crc32(raw[44:64], zlib.crc32(raw[:40])))
    if checksum:
        raw[-4:] = struct.pack("<I", zlib.crc32(raw[:-4]))
    scratch.write_bytes(raw)
    for level in ("full", "structure"):
        try:
            with open_apr(scratch, level) as file:  # type: ignore[arg-type]
                for name in file.entries:
                    file.array(name)
                read_facts(file)
        except AprError:
            pass


def test_every_cut_is_refused(tiny_bytes: bytes, scratch: Path) -> None:
    metadata_size, index_at, data_at = struct.unpack_from("<IQQ", tiny_bytes, 20)
    size = len(tiny_bytes)
    borders = [
        0,
        1,
        3,
        4,
        6,
        63,
        64,
        64 + metadata_size,
        index_at,
        data_at,
        data_at + 64,
        size - 64,
        size - 5,
    ]
    chance = random.Random(7)
    cuts = [*borders, *range(size - 4, size), *(chance.randrange(size) for _ in range(200))]
    for cut in cuts:
        scratch.write_bytes(tiny_bytes[:cut])
        for level in ("full", "structure"):
            with pytest.raises((errors.FileTruncated, errors.TensorOutOfBounds, errors.NotAprFile)):
                open_apr(scratch, level)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keep", "part"),
    [(64, "metadata"), (130, "tensor index"), (-4, "footer"), (-1, "footer"), (-30, "padding")],
)
def test_a_cut_is_named_by_its_part(tiny_bytes: bytes, scratch: Path, keep: int, part: str) -> None:
    if part == "tensor index":
        keep = struct.unpack_from("<Q", tiny_bytes, 24)[0] + 10
    scratch.write_bytes(tiny_bytes[:keep])
    with pytest.raises(errors.FileTruncated) as caught:
        open_apr(scratch, "structure")
    assert caught.value.part == part
    assert caught.value.size_bytes == scratch.stat().st_size < caught.value.required_bytes


def test_a_cut_in_the_data_names_the_tensor(craft: Craft) -> None:
    path = craft([A, {"name": "b", "values": (1.0,) * 100}])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(errors.TensorOutOfBounds) as caught:
        open_apr(path)
    assert caught.value.tensor == "b"


@pytest.mark.parametrize("surplus", [1, 3, 5, 64])
def test_bytes_behind_the_end_are_refused(craft: Craft, surplus: int) -> None:
    path = craft([A])
    path.write_bytes(path.read_bytes() + bytes(surplus))
    with pytest.raises(errors.TrailingBytes):
        open_apr(path, "structure")


U64 = (1 << 64) - 64


@pytest.mark.parametrize(
    ("tensors", "error"),
    [
        ([{**A, "offset": U64}], errors.TensorOutOfBounds),
        ([{**A, "offset": 1 << 62}], errors.TensorOutOfBounds),
        ([{**A, "offset": 4}], errors.IndexEntryBad),
        ([{**A, "size": 1 << 63}], errors.TensorSizeWrong),
        ([{**A, "size": 4}], errors.TensorSizeWrong),
        ([{**A, "size": 0}], errors.TensorSizeWrong),
        ([{**A, "shape": (1 << 63, 1 << 63)}], errors.IndexEntryBad),
        ([{**A, "shape": (0, 1 << 63)}], errors.IndexEntryBad),
        ([{**A, "shape": (1 << 40,), "size": 1 << 42}], errors.TensorOutOfBounds),
        ([{**A, "shape": (1,) * 9}], errors.IndexEntryBad),
        ([{**A, "code": 99}], errors.IndexEntryBad),
        ([{**A, "code": 8}], errors.TensorSizeWrong),
        ([{**A, "name": "n" * 257}], errors.IndexEntryBad),
        ([{**A, "name": ""}], errors.IndexEntryBad),
        ([{**A, "name": b"\xff\xfe"}], errors.IndexEntryBad),
        ([A, A], errors.TensorDuplicate),
        ([B, A], errors.IndexUnsorted),
        ([{"name": "x.10"}, {"name": "x.2"}, {"name": "x.1"}], errors.IndexUnsorted),
        ([A, {**B, "offset": 0}], errors.TensorsOverlap),
        ([{"name": "a", "values": (1.0,) * 32}, {**B, "offset": 64}], errors.TensorsOverlap),
        ([{**A, "name": HEAD, "size": 0}], errors.TieBroken),
        ([{**A, "name": HEAD, "size": 0}, {**B, "name": EMBEDDING}], errors.TieBroken),
        (
            [
                {"name": HEAD, "data": bytes(4), "code": 1, "shape": (2,), "offset": 0},
                {"name": EMBEDDING, "data": b"", "code": 30, "shape": (2,), "offset": 0, "size": 4},
            ],
            errors.TieBroken,
        ),
        (
            [{**A, "name": HEAD, "offset": 0}, {**A, "name": EMBEDDING, "shape": (2, 1), "offset": 0}],
            errors.TieBroken,
        ),
    ],
)
def test_a_crafted_index_is_refused(
    craft: Craft, tensors: list[dict[str, Any]], error: type[AprError]
) -> None:
    for level in ("full", "structure"):
        with pytest.raises(error):
            open_apr(craft(tensors), level)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lies", "error"),
    [
        ({"tensor_count": (1 << 32) - 1}, errors.HeaderFieldBad),
        ({"tensor_count": 1000}, errors.IndexEntryBad),
        ({"tensor_count": 0}, errors.HeaderFieldBad),
        ({"metadata_offset": 128}, errors.HeaderFieldBad),
        ({"metadata_size": (1 << 32) - 1}, errors.HeaderFieldBad),
        ({"metadata_size": 1 << 26}, errors.HeaderFieldBad),
        (
            {"metadata_size": 1 << 20, "tensor_index_offset": 64 + (1 << 20), "data_offset": 1 << 21},
            errors.FileTruncated,
        ),
        ({"tensor_index_offset": (1 << 64) - 1}, errors.HeaderFieldBad),
        ({"data_offset": (1 << 64) - 64}, errors.FileTruncated),
        ({"data_offset": 0}, errors.HeaderFieldBad),
        ({"data_offset": 191}, errors.HeaderFieldBad),
        ({"data_offset": 256}, errors.HeaderFieldBad),
    ],
)
def test_a_crafted_header_is_refused(craft: Craft, lies: dict[str, int], error: type[AprError]) -> None:
    path = craft([A, B], **lies)
    for level in ("full", "structure"):
        with pytest.raises(error):
            open_apr(path, level)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "metadata",
    [
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 400 + b"}",
        b'{"a": "\\ud800"}',
        b"[1]",
        b'"text"',
        b"",
        b"{",
        b"\xff{}",
        b"[" * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_metadata_that_is_no_plain_object(craft: Craft, metadata: bytes) -> None:
    with pytest.raises(errors.MetadataBad):
        open_apr(craft([A], metadata))


def test_of_two_keys_the_last_counts(craft: Craft) -> None:
    with open_apr(craft([A], b'{"a": null, "a": "\\ud83d\\ude00"}')) as file:
        assert file.metadata == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    ("own", "error"),
    [
        ({}, errors.FactsBad),
        ([], errors.FactsBad),
        ({"digests": []}, errors.FactsBad),
        ({"digests": {"a": "0" * 64}}, errors.TensorDigestWrong),
        ({"digests": {"a": None}}, errors.TensorDigestWrong),
        ({"digests": {}}, errors.DigestsIncomplete),
        ({"digests": {"a": "0" * 64, "b": "0" * 64}}, errors.DigestsIncomplete),
    ],
)
def test_digests_that_do_not_hold(craft: Craft, own: Any, error: type[AprError]) -> None:
    with pytest.raises(error):
        open_apr(craft([A], {"apr_pretrain": own}))


def test_a_wrong_digest_names_the_tensor_and_both_values(tiny_bytes: bytes, scratch: Path) -> None:
    at = _places(tiny_bytes)["data"]
    raw = bytearray(tiny_bytes)
    raw[at] ^= 1
    raw[-4:] = struct.pack("<I", zlib.crc32(raw[:-4]))  # a forger who knows the footer
    scratch.write_bytes(raw)
    with pytest.raises(errors.TensorDigestWrong) as caught:
        open_apr(scratch)
    assert caught.value.tensor == "model.embed_tokens.weight"
    assert len(caught.value.expected) == len(caught.value.found) == 64
    with open_apr(scratch, "structure") as file:
        assert json.dumps(file.metadata["apr_pretrain"]["digests"]).count(caught.value.expected) == 1


@pytest.mark.parametrize(("at", "part"), [(127, "the metadata"), (191, "the index"), (255, "tensor a")])
def test_padding_is_checked_where_no_checksum_covers_it(craft: Craft, at: int, part: str) -> None:
    path = craft([A], footer=False)
    raw = bytearray(path.read_bytes())
    assert len(raw) == 256
    raw[at] = 7
    path.write_bytes(raw)
    with pytest.raises(errors.PaddingNotZero) as caught:
        open_apr(path)
    assert (caught.value.offset, caught.value.part) == (at, part)


def test_bytes_of_no_tensor_must_be_zero(craft: Craft) -> None:
    # A gap of 128 bytes between two tensors, with something hidden in it.
    content = bytes(64) + b"hidden".ljust(128, b"\0")
    tensors = [A, {"name": "b", "data": content, "shape": (16,), "size": 64, "offset": 192}]
    with pytest.raises(errors.PaddingNotZero) as caught:
        open_apr(craft(tensors))
    assert caught.value.part == "tensor a"
    path = craft(tensors, footer=False)
    path.write_bytes(path.read_bytes().replace(b"hidden", bytes(6)))
    open_apr(path).close()
