"""The writer: the same bytes twice, or nothing at all."""

from __future__ import annotations

import errno
import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apr.aprfile import writer
from apr.aprfile.errors import MetadataBad, TensorNotWritable, WrittenBytesDiffer
from apr.aprfile.reader import open_apr
from apr.aprfile.writer import TensorSource, write_apr
from apr.base import files
from apr.base.errors import AprError, CannotRead, CannotWrite

ONES = np.ones((2, 3), dtype="<f4")


def source(
    name: str = "a", dtype: str = "F32", shape: tuple[int, ...] = (2, 3), array: Any = ONES
) -> TensorSource:
    return TensorSource(name=name, dtype=dtype, shape=shape, produce=lambda: array)


def test_two_writes_are_byte_identical(tmp_path: Path) -> None:
    sources = [source("b"), source("a"), source("model.layers.10.x"), source("model.layers.2.x")]
    left, right = tmp_path / "left.apr", tmp_path / "right.apr"
    write_apr(left, {"b": {"y": 1, "x": 2}, "a": 1, "architecture": "llama", "model_type": "m"}, sources)
    write_apr(
        right, {"model_type": "m", "a": 1, "b": {"x": 2, "y": 1}, "architecture": "llama"}, sources[::-1]
    )
    assert left.read_bytes() == right.read_bytes()


def test_keys_stand_in_the_order_of_the_field(tmp_path: Path) -> None:
    path = tmp_path / "x.apr"
    write_apr(path, {"z": 1, "head_dim": 2, "a": 3, "architecture": "llama", "model_type": "m"}, [])
    with open_apr(path) as file:
        assert list(file.metadata) == ["model_type", "architecture", "head_dim", "a", "apr_pretrain", "z"]


@pytest.mark.parametrize(
    ("metadata", "sources", "flags"),
    [
        ({}, [source()], 0x0400),
        ({"tokenizer.vocabulary": ["a"]}, [source()], 0x0600),
        ({}, [source(dtype="Q4_K", shape=(1, 256), array=np.zeros(144, dtype="u1"))], 0x0420),
    ],
)
def test_flags_are_truthful(tmp_path: Path, metadata: Any, sources: Any, flags: int) -> None:
    path = tmp_path / "x.apr"
    write_apr(path, metadata, sources)
    assert struct.unpack_from("<H", path.read_bytes(), 6)[0] == flags


def test_each_tensor_is_produced_once_in_index_order(tmp_path: Path) -> None:
    calls: list[str] = []

    def produce(name: str) -> np.ndarray:
        calls.append(name)
        return ONES

    sources = [
        TensorSource(name=name, dtype="F32", shape=(2, 3), produce=lambda name=name: produce(name))
        for name in ("c", "a", "b")
    ]
    progress: list[tuple[int, int]] = []
    write_apr(tmp_path / "x.apr", {}, sources, on_progress=lambda *pair: progress.append(pair))
    assert calls == ["a", "b", "c"]
    assert progress == [(64, 192), (128, 192), (192, 192)]


def test_an_array_in_another_memory_order_is_stored_in_ours(tmp_path: Path) -> None:
    turned = np.arange(6, dtype="<f4").reshape(3, 2).T
    write_apr(tmp_path / "x.apr", {}, [source(array=turned)])
    with open_apr(tmp_path / "x.apr") as file:
        assert np.array_equal(file.array("a"), turned)


@pytest.mark.parametrize(
    "bad",
    [
        source(name=""),
        source(name="n" * 257),
        source(name="half \ud800"),
        source(dtype="F64"),
        source(dtype="AprQ8"),
        source(shape=(1,) * 9),
        source(shape=(2, 0)),
        source(dtype="Q4_K", shape=(2, 200)),
        source(dtype="Q6_K", shape=()),
        source(array=ONES.astype("<f8")),
        source(array=ONES.reshape(3, 2)),
        source(array=ONES[:1]),
        source(dtype="BF16", array=ONES.astype("<f2")),
        source(dtype="Q4_K", shape=(1, 256), array=np.zeros(143, dtype="u1")),
    ],
)
def test_what_readers_would_refuse_is_not_written(tmp_path: Path, bad: TensorSource) -> None:
    with pytest.raises(TensorNotWritable):
        write_apr(tmp_path / "x.apr", {}, [source("zero"), bad])
    assert list(tmp_path.iterdir()) == []


def test_one_name_for_two_tensors(tmp_path: Path) -> None:
    with pytest.raises(TensorNotWritable):
        write_apr(tmp_path / "x.apr", {}, [source(), source()])


@pytest.mark.parametrize(
    "aliases",
    [
        {"lm_head.weight": "a"},
        {"other": "model.embed_tokens.weight"},
        {"lm_head.weight": "none"},
        {"a": "model.embed_tokens.weight"},
    ],
)
def test_only_a_head_may_share_the_embedding(tmp_path: Path, aliases: dict[str, str]) -> None:
    sources = [source(), source("model.embed_tokens.weight")]
    with pytest.raises(TensorNotWritable):
        write_apr(tmp_path / "x.apr", {}, sources, aliases)


def test_a_head_of_its_own_cannot_be_an_alias_too(tmp_path: Path) -> None:
    sources = [source("lm_head.weight"), source("model.embed_tokens.weight")]
    with pytest.raises(TensorNotWritable):
        write_apr(tmp_path / "x.apr", {}, sources, {"lm_head.weight": "model.embed_tokens.weight"})


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": object()},
        {"a": 10**30},
        {"a": "\ud800"},
        {"apr_pretrain": 1},
    ],
)
def test_metadata_that_cannot_be_read_back_is_not_written(tmp_path: Path, metadata: dict[str, Any]) -> None:
    with pytest.raises(MetadataBad):
        write_apr(tmp_path / "x.apr", metadata, [source()])
    assert list(tmp_path.iterdir()) == []


class _Planted(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_Planted(), _Planted),
        (OSError(errno.EIO, "Input/output error"), CannotRead),
        (MemoryError(), MemoryError),
    ],
)
def test_a_source_that_fails_leaves_what_was_there(
    tmp_path: Path, error: BaseException, expected: type[BaseException]
) -> None:
    def fail() -> np.ndarray:
        raise error

    path = tmp_path / "x.apr"
    path.write_bytes(b"before")
    with pytest.raises(expected):
        write_apr(path, {}, [source("a"), replace(source("b"), produce=fail)])
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


class _Disk:
    """A file whose disk does as the test says with each block written."""

    def __init__(self, stream: Any, write: Callable[[Any, Any], int]) -> None:
        self._stream, self._write = stream, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, block: Any) -> int:
        return self._write(self._stream, block)


def _plug(monkeypatch: pytest.MonkeyPatch, write: Callable[[Any, Any], int]) -> None:
    @contextmanager
    def replacing(path: Path) -> Iterator[_Disk]:
        with files.replacing(path) as stream:
            yield _Disk(stream, write)

    monkeypatch.setattr(writer, "replacing", replacing)


@pytest.mark.parametrize("room_bytes", [0, 100, 1000, 1200, 1300])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room_bytes: int) -> None:
    def write(stream: Any, block: Any) -> int:
        if stream.tell() + len(block) > room_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        return stream.write(block)

    _plug(monkeypatch, write)
    with pytest.raises(CannotWrite):
        write_apr(tmp_path / "x.apr", {}, [source(name) for name in "abcdefghijklmnop"])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_keeps_other_bytes_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(stream: Any, block: Any) -> int:
        return stream.write(bytes(24) if bytes(block) == ONES.tobytes() else block)

    _plug(monkeypatch, write)
    with pytest.raises(WrittenBytesDiffer) as caught:
        write_apr(tmp_path / "x.apr", {}, [source()])
    assert caught.value.part == "the tensor a"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_spoils_the_head_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(stream: Any, block: Any) -> int:
        is_head = bytes(block[:4]) == b"APR\0"
        return stream.write(bytes(block).replace(b"marker", b"larker") if is_head else block)

    _plug(monkeypatch, write)
    with pytest.raises(WrittenBytesDiffer) as caught:
        write_apr(tmp_path / "x.apr", {"x": "marker"}, [source()])
    assert caught.value.part == "the head"


def test_an_empty_set_of_tensors_is_a_file(tmp_path: Path) -> None:
    written = write_apr(tmp_path / "x.apr", {}, [])
    with open_apr(tmp_path / "x.apr") as file:
        assert not file.entries
        assert file.file_digest == written.file_digest


def test_errors_survive_a_process_pool() -> None:
    error = WrittenBytesDiffer(path="x", part="the head", expected="0", found="1")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, AprError)
    assert again.facts == error.facts
