"""What is written is what is read, for any set of tensors."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.aprfile.errors import FileClosed, TensorUnknown
from apr.aprfile.reader import open_apr
from apr.aprfile.writer import TensorSource, write_apr
from apr.base.errors import CannotRead, FileMissing

BYTES_PER = {"F32": ("<f4", 4), "F16": ("<f2", 2), "BF16": ("<u2", 2)}

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
shapes = st.lists(st.integers(1, 5), max_size=4).map(tuple)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def _values(dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    kind, width = BYTES_PER[dtype]
    raw = np.random.default_rng(seed).bytes(width * int(np.prod(shape)))
    return np.frombuffer(raw, dtype=kind).reshape(shape)


@settings(max_examples=60, deadline=None)
@given(
    tensors=st.dictionaries(names, st.tuples(st.sampled_from(sorted(BYTES_PER)), shapes), max_size=6),
    metadata=st.dictionaries(st.text("xyz.", min_size=1, max_size=6), json_values, max_size=4),
)
def test_any_tensors_and_metadata_come_back(tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    arrays = {name: _values(*kind, seed=len(name)) for name, kind in tensors.items()}
    sources = [
        TensorSource(name=name, dtype=dtype, shape=shape, produce=lambda name=name: arrays[name])
        for name, (dtype, shape) in tensors.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.apr"
        written = write_apr(path, metadata, sources)
        assert path.stat().st_size == written.size_bytes
        with open_apr(path) as file:
            assert list(file.entries) == sorted(tensors, key=str.encode)
            assert {key: file.metadata[key] for key in metadata} == metadata
            assert file.metadata["apr_pretrain"]["digests"] == written.digests
            assert file.file_digest == written.file_digest
            for name, (dtype, shape) in tensors.items():
                assert (file.entries[name].dtype, file.entries[name].shape) == (dtype, shape)
                assert bytes(file.bytes_of(name)) == arrays[name].tobytes()
                assert file.array(name).tobytes() == arrays[name].tobytes()


def test_a_full_check_says_so(tiny_apr: Path) -> None:
    seen: list[tuple[int, int]] = []
    with open_apr(tiny_apr, on_progress=lambda done, total: seen.append((done, total))) as file:
        assert (file.checksums.header, file.checksums.footer, file.checksums.digests) == ("ok", "ok", "ok")
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_structure_check_says_what_it_left_out(tiny_apr: Path) -> None:
    with open_apr(tiny_apr, "structure") as file:
        assert (file.checksums.footer, file.checksums.digests) == ("unchecked", "unchecked")
        file.verify()
        assert (file.checksums.footer, file.checksums.digests) == ("ok", "ok")


def test_a_misspelt_check_is_not_a_weaker_one(tiny_apr: Path) -> None:
    with pytest.raises(ValueError, match="ful"):
        open_apr(tiny_apr, "ful")  # type: ignore[arg-type]


def test_a_file_of_another_program_has_no_digests(craft: Callable[..., Path]) -> None:
    tensors = [{"name": "a", "values": (1.0, 2.0)}, {"name": "b", "shape": ()}]
    with open_apr(craft(tensors, {"model_type": "x"})) as file:
        assert (file.checksums.footer, file.checksums.digests) == ("ok", "absent")
        assert file.array("a").tolist() == [1.0, 2.0]
        assert file.array("b").shape == ()
        assert not file.is_ours
    with open_apr(craft(tensors, {"model_type": "x"}, footer=False)) as file:
        assert file.checksums.footer == "absent"


def test_tensors_may_lie_in_another_order_than_the_index(craft: Callable[..., Path]) -> None:
    first, second = (
        {"name": "a", "values": (1.0,), "offset": 64},
        {"name": "b", "values": (2.0,), "offset": 0},
    )
    with open_apr(craft([first, second])) as file:
        assert file.array("a").tolist() == [2.0]
        assert file.array("b").tolist() == [1.0]


def test_the_tied_head_is_the_embedding_and_takes_no_bytes(tiny_apr: Path) -> None:
    with open_apr(tiny_apr) as file:
        assert dict(file.aliases) == {"lm_head.weight": "model.embed_tokens.weight"}
        head, embedding = file.array("lm_head.weight"), file.array("model.embed_tokens.weight")
        assert np.shares_memory(head, embedding)
        assert file.entries["lm_head.weight"].shape == (6, 4)
        assert "lm_head.weight" not in file.metadata["apr_pretrain"]["digests"]


def test_the_empty_head_of_other_importers_is_the_embedding(craft: Callable[..., Path]) -> None:
    head = {"name": "lm_head.weight", "data": b"", "shape": (2, 2), "code": 0}
    embedding = {"name": "model.embed_tokens.weight", "data": bytes(range(8)), "shape": (2, 2), "code": 30}
    with open_apr(craft([head, embedding])) as file:
        assert "lm_head.weight" in file.aliases
        assert file.entries["lm_head.weight"].dtype == "BF16"
        assert bytes(file.bytes_of("lm_head.weight")) == bytes(range(8))


def test_arrays_are_views_that_nobody_can_write(tiny_apr: Path) -> None:
    with open_apr(tiny_apr) as file:
        array = file.array("model.norm.weight")
        assert not array.flags.writeable
        assert array.base is not None
        assert file.bytes_of("model.norm.weight").readonly


def test_arrays_outlive_the_file(tiny_apr: Path) -> None:
    with open_apr(tiny_apr) as file:
        array = file.as_f32("model.norm.weight")
        expected = array.copy()
    assert array.tolist() == expected.tolist()
    with pytest.raises(FileClosed):
        file.array("model.norm.weight")
    file.close()
    del array


def test_an_unknown_tensor_is_named_with_its_neighbour(tiny_apr: Path) -> None:
    with open_apr(tiny_apr) as file, pytest.raises(TensorUnknown) as caught:
        file.array("model.norm.wieght")
    assert caught.value.nearest == "model.norm.weight"


def test_a_folder_and_a_missing_file_are_no_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.apr"):
        with pytest.raises(FileMissing):
            open_apr(path)


def test_a_file_that_may_not_be_read(tiny_apr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CannotRead):
        open_apr(tiny_apr)


def test_the_file_digest_is_of_all_before_the_data(tiny_apr: Path) -> None:
    raw = tiny_apr.read_bytes()
    data_offset = int.from_bytes(raw[32:40], "little")
    with open_apr(tiny_apr, "structure") as file:
        assert file.file_digest == hashlib.sha256(raw[:data_offset]).hexdigest()
