"""Windows over a dataset: seq_length + 1 tokens, overlapping by one, so every token is predicted once.

Window i holds the tokens from i * T to (i + 1) * T, both included; its inputs are all but the last of them,
its targets all but the first. The first token of a dataset is the only one that nothing predicts. The last
window may be short: it is padded and its padding is masked out of the loss, not dropped.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from apr.base.errors import BadOption
from apr.data.errors import CorpusShorterThanWindow
from apr.data.shards import TokenDataset

IGNORED_TARGET = -100  # what torch's cross entropy leaves out by default
_PADDING_ID = 0  # an id that every vocabulary has; attention is causal, so nothing before it sees it
MIN_COMPARED = 128  # tokens
_HASH_BYTES = 8
_BLOCK_WINDOWS = 1024


def num_windows(total_tokens: int, seq_length: int) -> int:
    """Windows in a dataset: ceil((total_tokens - 1) / seq_length).

    Args:
        total_tokens: at least 1.
        seq_length: predicted tokens a window, T, at least 1.
    """
    return -(-(total_tokens - 1) // seq_length)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """The windows of a dataset; made by `cut_windows`."""

    dataset: TokenDataset
    seq_length: int

    def __len__(self) -> int:
        """Windows, the short last one included."""
        return num_windows(self.dataset.total_tokens, self.seq_length)

    def num_targets(self, index: int) -> int:
        """Predicted tokens in a window: T, or fewer in the last."""
        return min(self.seq_length, self.dataset.total_tokens - 1 - index * self.seq_length)

    def window(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One window.

        Returns:
            Inputs [T] i64, and targets [T] i64 with IGNORED_TARGET where padded.

        Raises:
            IndexError: not 0 <= index < len(self).
        """
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        start, count = index * self.seq_length, self.num_targets(index)
        tokens = self.dataset.slice(start, start + count + 1)
        inputs = np.full(self.seq_length, _PADDING_ID, dtype=np.int64)
        targets = np.full(self.seq_length, IGNORED_TARGET, dtype=np.int64)
        inputs[:count], targets[:count] = tokens[:-1], tokens[1:]
        return inputs, targets


def cut_windows(dataset: TokenDataset, seq_length: int) -> Windows:
    """Cut a dataset into windows.

    Raises:
        BadOption: seq_length is below 1.
        CorpusShorterThanWindow: the dataset does not fill one window.
    """
    if seq_length < 1:
        raise BadOption(option="--seq-length", value=str(seq_length), limit="at least 1")
    if dataset.total_tokens < seq_length + 1:
        raise CorpusShorterThanWindow(
            folder=str(dataset.folder),
            num_tokens=dataset.total_tokens,
            needed_tokens=seq_length + 1,
            seq_length=seq_length,
        )
    return Windows(dataset=dataset, seq_length=seq_length)


def shared_windows(train: TokenDataset, validation: TokenDataset, seq_length: int) -> tuple[int, int]:
    """Count the windows of text that stand in both parts of a dataset.

    Short windows repeat by chance in any text (an indented line, a heading), so what is compared is at least
    MIN_COMPARED tokens long, or as long as the validation part, where that is less.

    Returns:
        How many are in both, and how many tokens were compared at a time: a multiple of `seq_length`.

    Raises:
        BadOption, CorpusShorterThanWindow: see `cut_windows`.
    """
    longest = min(train.total_tokens, validation.total_tokens) - 1
    times = min(-(-MIN_COMPARED // seq_length), max(1, longest // seq_length))
    length = times * seq_length
    shared = np.intersect1d(window_hashes(train, length), window_hashes(validation, length))
    return len(shared), length


def shared_documents(train: TokenDataset, validation: TokenDataset) -> int:
    """Count the documents of the validation part that stand in the training part too, wherever they begin there.

    Documents of fewer than MIN_COMPARED tokens are left out: short ones repeat in any corpus. Length and three tokens
    sort out the others cheaply; only what agrees in those is compared as a whole.
    """
    keys, found = document_keys(train), document_keys(validation)
    candidates = np.flatnonzero(np.isin(keys, np.unique(found[found > 0])))
    known = {_document_digest(train, int(index)) for index in candidates}
    told = np.flatnonzero(np.isin(found, keys[candidates]) & (found > 0))
    return sum(_document_digest(validation, int(index)) in known for index in told)


def document_keys(dataset: TokenDataset) -> np.ndarray:
    """A number for each document, made of its length and of its first, middle and last token: [documents] u64, 0 for
    those below MIN_COMPARED tokens.
    """
    starts = np.append(dataset.document_starts.astype(np.int64), dataset.total_tokens)
    lengths = np.diff(starts)
    keys = lengths.astype(np.uint64)
    for at in (starts[:-1], starts[:-1] + lengths // 2, starts[1:] - 2):
        places = np.clip(at, 0, dataset.total_tokens - 1)
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + dataset.tokens_at(places).astype(np.uint64)
    return np.where(lengths < MIN_COMPARED, np.uint64(0), keys | np.uint64(1))


def _document_digest(dataset: TokenDataset, index: int) -> bytes:
    tokens = dataset.document(index, dataset.total_tokens)
    return hashlib.sha256(tokens.astype("<u4", copy=False).tobytes()).digest()


def window_hashes(dataset: TokenDataset, seq_length: int) -> np.ndarray:
    """Hash every full window, to prove two datasets disjoint (`np.intersect1d`).

    Returns:
        [full windows] u64 in window order: blake2b, 8 bytes, of the seq_length + 1 ids as little-endian u32.
        A short last window is left out.

    Raises:
        BadOption, CorpusShorterThanWindow: see `cut_windows`.
    """
    cut_windows(dataset, seq_length)
    count = (dataset.total_tokens - 1) // seq_length
    hashes = np.empty(count, dtype=np.uint64)
    width = (seq_length + 1) * 4
    for begin in range(0, count, _BLOCK_WINDOWS):
        end = min(begin + _BLOCK_WINDOWS, count)
        tokens = dataset.slice(begin * seq_length, end * seq_length + 1).astype("<u4", copy=False)
        content = memoryview(tokens.tobytes())
        digests = b"".join(
            hashlib.blake2b(content[at : at + width], digest_size=_HASH_BYTES).digest()
            for at in range(0, (end - begin) * seq_length * 4, seq_length * 4)
        )
        hashes[begin:end] = np.frombuffer(digests, dtype="<u8")
    return hashes
