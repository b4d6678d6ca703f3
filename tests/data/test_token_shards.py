"""A dataset is what its manifest says, or it is refused by the id of what is wrong."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.base.errors import BadJson, BadOption
from apr.data.errors import (
    DatasetUnfinished,
    DocumentsChanged,
    ManifestMissing,
    ManifestValueBad,
    ShardChanged,
    ShardIdTooLarge,
    ShardMissing,
    ShardNotWhole,
    ShardSizeChanged,
    ShardUnexpected,
)
from apr.data.manifest import write_in_progress
from apr.data.shards import open_dataset

UNEQUAL = [[10, 11, 12], [13], [14, 15, 16, 17, 18], [19, 20]]


def test_unequal_shards_are_one_array(tmp_path, write_dataset):
    dataset = open_dataset(write_dataset(tmp_path / "d", UNEQUAL, starts=(0, 4, 10)))
    assert dataset.total_tokens == 11
    assert dataset.slice(0, 11).tolist() == list(range(10, 21))
    assert dataset.slice(0, 11).dtype == np.uint32
    assert dataset.document_starts.tolist() == [0, 4, 10]
    assert dataset.dataset_digest == dataset.manifest.digest
    counts = dataset.token_counts()
    assert counts.sum() == 11
    assert counts[10:21].tolist() == [1] * 11


@given(st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=6), min_size=1, max_size=6), st.data())
def test_a_slice_crosses_any_border(memory_dataset, pieces, data):
    whole = [token for piece in pieces for token in piece]
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert memory_dataset(pieces).slice(start, stop).tolist() == whole[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 12), (12, 12)])
def test_a_slice_outside_is_an_error_and_never_shorter(memory_dataset, start, stop):
    with pytest.raises(IndexError):
        memory_dataset(UNEQUAL).slice(start, stop)


def edit(path, at, value):
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(content)


FAULTS = {
    "manifest gone": (ManifestMissing, lambda d: (d / "manifest.json").unlink()),
    "in progress": (DatasetUnfinished, lambda d: write_in_progress(d, "a" * 64)),
    "manifest cut off": (BadJson, lambda d: (d / "manifest.json").write_text("{")),
    "manifest of another version": (
        ManifestValueBad,
        lambda d: (d / "manifest.json").write_text('{"format_version": 3}'),
    ),
    "shard gone": (ShardMissing, lambda d: (d / "shard-00002.bin").unlink()),
    "odd size": (ShardNotWhole, lambda d: (d / "shard-00001.bin").write_bytes(b"\1\0\0")),
    "longer": (ShardSizeChanged, lambda d: (d / "shard-00001.bin").write_bytes(bytes(8))),
    "shorter": (ShardSizeChanged, lambda d: (d / "shard-00000.bin").write_bytes(bytes(8))),
    "one more shard": (ShardUnexpected, lambda d: (d / "shard-00004.bin").write_bytes(bytes(8))),
    "a stranger's shard": (ShardUnexpected, lambda d: (d / "train_0.bin").write_bytes(bytes(8))),
    "documents gone": (DocumentsChanged, lambda d: (d / "documents.bin").unlink()),
    "documents longer": (DocumentsChanged, lambda d: (d / "documents.bin").write_bytes(bytes(16))),
}
CONTENT_FAULTS = {
    "a token changed": (ShardChanged, lambda d: edit(d / "shard-00003.bin", 4, 21)),
    "documents changed": (DocumentsChanged, lambda d: edit(d / "documents.bin", 0, 1)),
}


@pytest.mark.parametrize(("error", "fault"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("check", ["structure", "full"])
def test_a_folder_that_differs_is_refused(tmp_path, write_dataset, error, fault, check):
    folder = write_dataset(tmp_path / "d", UNEQUAL)
    open_dataset(folder, check)
    fault(folder)
    with pytest.raises(error):
        open_dataset(folder, check)


@pytest.mark.parametrize(("error", "fault"), CONTENT_FAULTS.values(), ids=CONTENT_FAULTS)
def test_changed_bytes_are_refused_by_the_full_check(tmp_path, write_dataset, error, fault):
    folder = write_dataset(tmp_path / "d", UNEQUAL)
    fault(folder)
    open_dataset(folder, "structure")
    with pytest.raises(error):
        open_dataset(folder, "full")


def test_shards_without_a_manifest_are_refused(tmp_path):
    (tmp_path / "shard-00000.bin").write_bytes(bytes(40))
    with pytest.raises(ManifestMissing) as caught:
        open_dataset(tmp_path)
    assert caught.value.exit_code == 2


def test_an_id_outside_the_vocabulary_is_named_with_its_place(tmp_path, write_dataset):
    # Long enough for a second block of the scan, with the foreign ids there; the manifest's sha256 is theirs.
    tokens = np.zeros((1 << 20) + 9, dtype=np.uint32)
    tokens[[(1 << 20) + 3, (1 << 20) + 5]] = 1000
    folder = write_dataset(tmp_path / "d", [[1, 2], tokens], max_token_id=999)
    with pytest.raises(ShardIdTooLarge) as caught:
        open_dataset(folder)
    error = caught.value
    assert (error.token_id, error.position, error.vocab_size) == (1000, (1 << 20) + 3, 1000)
    assert error.path.endswith("shard-00001.bin")


def test_the_first_bad_shard_is_the_one_named(tmp_path, write_dataset):
    folder = write_dataset(tmp_path / "d", [[number] * 50 for number in range(20)])
    for index in (19, 7, 13):
        edit(folder / f"shard-{index:05d}.bin", 0, 99)
    with pytest.raises(ShardChanged) as caught:
        open_dataset(folder)
    assert caught.value.path.endswith("shard-00007.bin")


def test_other_files_in_the_folder_are_let_be(tmp_path, write_dataset):
    folder = write_dataset(tmp_path / "d", UNEQUAL)
    (folder / "README.md").write_text("mine")
    (folder / "val").mkdir()
    assert open_dataset(folder).total_tokens == 11


def test_another_check_is_not_a_check(tmp_path, write_dataset):
    with pytest.raises(BadOption):
        open_dataset(write_dataset(tmp_path / "d", UNEQUAL), "none")


def test_the_digest_of_a_dataset_does_not_depend_on_its_folder(tmp_path, write_dataset):
    one = write_dataset(tmp_path / "one", UNEQUAL)
    two = write_dataset(tmp_path / "two", UNEQUAL, elapsed_s=7.0)
    assert json.loads((one / "manifest.json").read_text()) != json.loads((two / "manifest.json").read_text())
    assert open_dataset(one).dataset_digest == open_dataset(two).dataset_digest
