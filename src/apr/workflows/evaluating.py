"""`apr eval`: the loss of a model on shards or on plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apr.aprfile.reader import open_apr
from apr.base.errors import BadOption
from apr.data.corpus import read_corpus
from apr.data.documents import document_numbers, separator_of
from apr.data.errors import CorpusEmpty, NoSeparators
from apr.data.shards import TokenDataset, open_dataset
from apr.data.windows import IGNORED_TARGET, num_windows
from apr.evals.loss import EvalLoss, evaluate_loss
from apr.model.adapters import loss_sum
from apr.model.load import LoadedDecoder, load_decoder
from apr.tokenizer.engine import TextTokenizer
from apr.train.device import resolve_compute
from apr.train.errors import NoTokenizer, TokenIdTooLarge, TokenizerMismatch
from apr.train.inputs import tokenizer_of

_MAX_SEQ_LENGTH = 1024  # a window's cost grows with its square; the same default as training's


def evaluate_model(
    path: Path,
    *,
    dataset: Path | None = None,
    text: Path | None = None,
    max_tokens: int | None = None,
    seq_length: int | None = None,
    device: str = "auto",
    dtype: str = "fp32",
    document_mask: bool = False,
    on_progress: Callable[[str, int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Measure the loss of an .apr model on exactly one of a dataset folder and a text.

    Args:
        path: the model.
        dataset: a folder of token shards.
        text: a file or folder of text.
        max_tokens: predict at most so many tokens; None for all.
        seq_length: window, at most what the model attends over; None for 1,024 or that.
        device, dtype: as for training; fp32 by default, because a loss is compared with others.
        document_mask: keep attention inside a document, as a run with --document-mask does.
        on_progress: told what is being done.

    Returns:
        {loss, standard_error, perplexity, bits_per_byte, num_tokens, num_bytes, seq_length, document_mask}; nats per
        token.

    Raises:
        AprError: the model or the data cannot be used.
    """
    if (dataset is None) == (text is None):
        given = "neither" if dataset is None else "both"
        raise BadOption(option="the number of --dataset and --text,", value=f"{given},", limit="one")
    if max_tokens is not None and max_tokens < 1:
        raise BadOption(option="--max-tokens", value=str(max_tokens), limit="a whole number from 1")
    compute = resolve_compute(device, dtype)
    say = on_progress or (lambda what, done, total: None)
    with open_apr(path, "full", lambda done, total: say("checking the digests", done, total)) as file:
        loaded = load_decoder(file, compute.device)
        tokenizer = _tokenizer(loaded, path)
        length = _window_length(loaded, seq_length)
        needed = None if max_tokens is None else max_tokens + 1
        shards = _open_shards(loaded, dataset) if dataset else None
        separator_id = _separator_id(shards, tokenizer, text) if document_mask else None
        ids = _shard_ids(shards, needed) if shards else _text_ids(tokenizer, text)[:needed]
        if len(ids) < 2:
            raise BadOption(
                option="the text", value=f"of {len(ids)} tokens", limit="at least two tokens long"
            )
        total = len(ids) - 1
        found = evaluate_loss(
            loss_sum(loaded.decoder, compute.dtype),
            _windows(ids, length, separator_id),
            lambda done: say("loss", done, total),
        )
    return {**_result(found, _num_bytes(tokenizer, ids[1:]), length), "document_mask": document_mask}


def _tokenizer(loaded: LoadedDecoder, path: Path) -> TextTokenizer:
    definition = tokenizer_of(loaded.facts)
    if definition is None:
        raise NoTokenizer(source=str(path))
    return TextTokenizer(definition)


def _window_length(loaded: LoadedDecoder, asked: int | None) -> int:
    _, limit = loaded.facts.config.sequence_limit
    if asked is not None and not 1 <= asked <= limit:
        raise BadOption(option="--seq-length", value=str(asked), limit=f"from 1 to the model's {limit}")
    return asked or min(limit, _MAX_SEQ_LENGTH)


def _separator_id(shards: TokenDataset | None, tokenizer: TextTokenizer, text: Path | None) -> int:
    if shards is not None:
        return separator_of(shards)
    if (found := tokenizer.definition.end_of_text_id) is None:
        raise NoSeparators(folder=str(text))
    return found


def _open_shards(loaded: LoadedDecoder, folder: Path) -> TokenDataset:
    dataset = open_dataset(folder)
    definition = tokenizer_of(loaded.facts)
    made_by = dataset.manifest.tokenizer_sha256
    if definition is not None and made_by != definition.sha256:
        raise TokenizerMismatch(dataset=str(folder), found=made_by[:12], expected=definition.sha256[:12])
    vocab_size = loaded.facts.config.vocab_size
    if dataset.manifest.max_token_id >= vocab_size:
        raise TokenIdTooLarge(dataset=str(folder), found=dataset.manifest.max_token_id, limit=vocab_size)
    return dataset


def _shard_ids(dataset: TokenDataset, needed: int | None) -> np.ndarray:
    stop = dataset.total_tokens if needed is None else min(needed, dataset.total_tokens)
    return dataset.slice(0, stop).astype(np.int64)


def _text_ids(tokenizer: TextTokenizer, path: Path | None) -> np.ndarray:
    """Encode a file or folder; documents are separated by the end-of-text id, as in training."""
    assert path is not None
    separator = tokenizer.definition.end_of_text_id
    ids: list[int] = []
    reader = read_corpus([path])
    for document in reader:
        if ids and separator is not None:
            ids.append(separator)
        ids.extend(tokenizer.encode(document.text))
    if not ids:
        counts = reader.counts
        raise CorpusEmpty(
            num_files=counts.num_files, num_empty=counts.num_empty, num_skipped=counts.num_skipped
        )
    return np.array(ids, dtype=np.int64)


def _windows(ids: np.ndarray, length: int, separator_id: int | None) -> Iterator[tuple[Tensor, ...]]:
    """Windows of the ids, [1, T] inputs and targets, each token predicted once; the last is padded and masked.

    With a separator, each input's document is the third of them.
    """
    for index in range(num_windows(len(ids), length)):
        piece = ids[index * length : (index + 1) * length + 1]
        inputs = np.zeros((1, length), dtype=np.int64)
        targets = np.full((1, length), IGNORED_TARGET, dtype=np.int64)
        inputs[0, : len(piece) - 1], targets[0, : len(piece) - 1] = piece[:-1], piece[1:]
        documents = () if separator_id is None else (document_numbers(inputs, separator_id),)
        yield tuple(torch.from_numpy(part) for part in (inputs, targets, *documents))


def _num_bytes(tokenizer: TextTokenizer, ids: np.ndarray) -> int:
    """UTF-8 bytes of the text that the predicted tokens spell; document separators spell none."""
    separator = tokenizer.definition.end_of_text_id
    return len(tokenizer.decode([int(i) for i in ids if i != separator]).encode())


def _result(found: EvalLoss, num_bytes: int, length: int) -> dict[str, Any]:
    return {
        "loss": found.loss,
        "standard_error": found.standard_error,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte(num_bytes) if num_bytes else None,
        "num_tokens": found.num_tokens,
        "num_bytes": num_bytes,
        "seq_length": length,
    }
