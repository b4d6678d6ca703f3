"""What step zero asks of a run's tokens: tokenizer, ids, text, split, separator, order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from apr.data.batches import BatchStream
from apr.data.shards import TokenDataset
from apr.data.windows import num_windows, shared_documents, shared_windows
from apr.stepzero import gates, order, text
from apr.stepzero.gate import GateResult
from apr.stepzero.probe import probe_ids, probe_text
from apr.tokenizer.engine import TextTokenizer
from apr.train.inputs import Inputs
from apr.train.plan import RunPlan

Judge = Callable[[], GateResult]
_ORDER_BATCHES = 2


def token_judges(inputs: Inputs, plan: RunPlan) -> Iterator[Judge]:
    """The gates of tokenizer and shards, in order, each to be called when its turn comes."""
    if inputs.tokenizer is not None:
        yield lambda: _tokenizer(inputs)
    yield lambda: _ids(inputs)
    yield lambda: _split(inputs, plan.seq_length)
    engine = TextTokenizer(inputs.tokenizer) if inputs.tokenizer is not None else None
    yield lambda: text.statistics_gate(
        inputs.train.token_counts(), unknown_id=engine.unknown_id if engine else None
    )
    if engine is not None:
        yield lambda: _sample(inputs, engine)
        if inputs.init is not None:
            yield lambda: _probe(inputs, engine)
    yield lambda: _eos(inputs)


def order_judge(stream: BatchStream, inputs: Inputs, plan: RunPlan) -> GateResult:
    """Judge the first batches of the stream that the loop will use, and put it back to its start."""
    total_windows = num_windows(inputs.train.total_tokens, plan.seq_length)
    num_batches = plan.num_steps * plan.grad_accum
    num_read = min(_ORDER_BATCHES, num_batches)
    # More than the run will use, where there is more: a few windows may stand in order by chance.
    looked_at = max(num_read, min(total_windows - stream.cursor, order.LOOKED_AT) // plan.batch_size)
    digest = stream.order_digest(order.digested_batches(num_batches, plan.batch_size))
    planned = stream.planned_windows(looked_at)
    start = stream.cursor
    batches = [stream.next_batch() for _ in range(num_read)]
    stream.cursor = start
    return order.order_gate(
        batches=batches,
        planned=planned,
        num_windows=total_windows,
        seq_length=plan.seq_length,
        total_tokens=inputs.train.total_tokens,
        read=inputs.train.slice,
        digest=digest,
        asked=(len(batches[0].window_indices), plan.batch_size),
        begins_at=start,
    )


def _datasets(inputs: Inputs) -> dict[str, TokenDataset]:
    return {"train": inputs.train, "validation": inputs.validation}


def _tokenizer(inputs: Inputs) -> GateResult:
    made_by = {role: data.manifest.tokenizer_sha256 for role, data in _datasets(inputs).items()}
    return gates.tokenizer_gate(
        tokenizer_sha256=inputs.tokenizer.sha256 if inputs.tokenizer else None,
        shards_sha256=made_by,
        tokenizer_size=inputs.tokenizer_size,
        vocab_size=inputs.config.vocab_size,
    )


def _ids(inputs: Inputs) -> GateResult:
    greatest = [
        int(shard[at : at + (1 << 22)].max())
        for data in _datasets(inputs).values()
        for shard in data.shards
        for at in range(0, len(shard), 1 << 22)
    ]
    return gates.ids_gate(
        max_token_id=max(greatest),
        vocab_size=inputs.config.vocab_size,
        num_tokens=sum(data.total_tokens for data in _datasets(inputs).values()),
    )


def _split(inputs: Inputs, length: int) -> GateResult:
    train, validation = inputs.train, inputs.validation
    num_shared, compared = shared_windows(train, validation, length)
    num_documents = shared_documents(train, validation)
    return gates.split_gate(
        num_shared=num_shared,
        num_train=num_windows(train.total_tokens, compared),
        num_validation=num_windows(validation.total_tokens, compared),
        num_tokens=compared,
        num_documents=num_documents,
    )


def _sample(inputs: Inputs, engine: TextTokenizer) -> GateResult:
    documents = [
        data.document(index, text.SAMPLE_TOKENS)
        for data in _datasets(inputs).values()
        for index in _spread(len(data.document_starts), text.SAMPLE_DOCUMENTS)
    ]
    eos = inputs.train.manifest.eos_token_id
    return text.sample_gate(documents, engine.encode, engine.decode, engine.normalize, eos_id=eos)


def _spread(count: int, wanted: int) -> list[int]:
    """Indices evenly over a range, the first and the last among them."""
    return sorted({round(i * (count - 1) / max(1, wanted - 1)) for i in range(min(count, wanted))})


def _probe(inputs: Inputs, engine: TextTokenizer) -> GateResult:
    reference = inputs.init.reference if inputs.init else None
    whole = probe_text()
    _, limit = inputs.config.sequence_limit
    return text.probe_gate(
        recorded=reference.probe_ids if reference else None,
        encoded=probe_ids(engine, limit),
        text=whole,
        restored=engine.decode(engine.encode(whole)),
        expected=engine.normalize(whole),
    )


def _eos(inputs: Inputs) -> GateResult:
    data, manifest = inputs.train, inputs.train.manifest
    own = inputs.tokenizer.end_of_text_id if inputs.tokenizer else manifest.eos_token_id
    starts = [int(data.document_starts[i]) for i in _spread(len(data.document_starts), 256)]
    ends = [int(data.slice(start - 1, start)[0]) for start in starts if start > 0]
    counts = data.token_counts()
    eos = manifest.eos_token_id
    return text.eos_gate(
        policy=manifest.eos_policy,
        manifest_eos=eos,
        tokenizer_eos=own,
        ends=ends,
        num_eos=int(counts[eos]) if eos is not None else 0,
        num_documents=manifest.total_documents,
    )
