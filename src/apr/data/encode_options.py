"""What an encoding is asked to do, and everything that its bytes depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from apr.base.errors import BadOption
from apr.base.files import canonical_json, sha256_bytes
from apr.data.assembly import Layout
from apr.data.audit import checked_ids, id_bound
from apr.data.corpus import CorpusReader
from apr.data.dedup import DEDUP_KINDS, Dedup
from apr.data.errors import EndOfTextMissing
from apr.data.manifest import EOS_POLICIES, FORMAT_VERSION, PRODUCER_VERSION, SplitRecord
from apr.data.minhash import LEAST_THRESHOLD
from apr.data.near_index import near_record
from apr.data.records import OnBad
from apr.data.spans import Portion
from apr.data.split import SPLIT_RULE, check_fraction
from apr.tokenizer.engine import Tokenizer
from apr.tokenizer.engine_record import EngineRecord

EosPolicy = Literal["after", "between", "none"]
PART_FIELD, TIMES_FIELD = "--part", "time of a corpus file"  # of a plan: what may differ between parts


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """How a corpus is encoded."""

    eos_policy: EosPolicy = (
        "after"  # where the end-of-text id goes; after, so that the last document ends too
    )
    shard_tokens: int = 10_000_000  # 40 MB: few files, and one is hashed in a blink
    val_fraction: float = 0.02  # of the documents
    seed: int = 42  # of the split
    glob: str = "**/*"
    content_field: str = "content"
    on_bad: OnBad = "fail"
    dedup: Dedup = (
        "none"  # a copy that was meant, such as a licence in every folder, is the user's to leave out
    )
    dedup_threshold: float | None = None  # of near; None is the field's usual 0.8
    seq_length_hint: int | None = None  # recorded for whoever trains on it; changes nothing here

    @property
    def split(self) -> SplitRecord:
        """The split as manifests record it; `part` is the training side's."""
        return SplitRecord(rule=SPLIT_RULE, seed=self.seed, fraction=float(self.val_fraction), part="train")

    @property
    def near_threshold(self) -> float | None:
        """From which similarity on a document is left out; None where only copies to the byte are, or none."""
        if self.dedup != "near":
            return None
        return 0.8 if self.dedup_threshold is None else float(self.dedup_threshold)


def check_options(options: EncodeOptions) -> None:
    """Refuse values that no encoding can have.

    Raises:
        BadOption: the first of them.
    """
    check_fraction(options.val_fraction)
    if options.eos_policy not in EOS_POLICIES:
        raise BadOption(option="--eos", value=options.eos_policy, limit=", ".join(EOS_POLICIES))
    if options.dedup not in DEDUP_KINDS:
        raise BadOption(option="--dedup", value=options.dedup, limit=", ".join(DEDUP_KINDS))
    _check_threshold(options)
    if options.shard_tokens < 1:
        raise BadOption(option="--shard-tokens", value=str(options.shard_tokens), limit="at least 1")
    if options.seq_length_hint is not None and options.seq_length_hint < 1:
        raise BadOption(option="seq_length_hint", value=str(options.seq_length_hint), limit="at least 1")


def _check_threshold(options: EncodeOptions) -> None:
    given = options.dedup_threshold
    if given is None:
        return
    if options.dedup != "near":
        raise BadOption(
            option="--dedup-threshold",
            value=str(given),
            limit=f"for --dedup {options.dedup}, only for --dedup near",
        )
    if not LEAST_THRESHOLD <= given <= 1.0:
        raise BadOption(option="--dedup-threshold", value=str(given), limit=f"from {LEAST_THRESHOLD} to 1")


def end_of_text(tokenizer: Tokenizer, policy: str) -> int | None:
    """The id of the separator; None when there is none.

    Raises:
        EndOfTextMissing, TokenIdTooLarge: the tokenizer names none, or one that it has not.
    """
    if policy == "none":
        return None
    token_id = tokenizer.definition.end_of_text_id
    if token_id is None:
        raise EndOfTextMissing(policy=policy)
    checked_ids([token_id], id_bound(tokenizer), "the end-of-text token")
    return token_id


def layout_of(options: EncodeOptions, tokenizer: Tokenizer, reader: CorpusReader) -> Layout:
    """What has to be known of the dataset before its first document.

    Raises:
        EndOfTextMissing, TokenIdTooLarge: as `end_of_text`.
    """
    return Layout(
        shard_tokens=options.shard_tokens,
        tokenizer_sha256=tokenizer.definition.sha256,
        eos_policy=options.eos_policy,
        eos_token_id=end_of_text(tokenizer, options.eos_policy),
        has_validation=options.val_fraction > 0,
        sources=tuple((source.name, float(source.weight)) for source in reader.sources),
    )


def plan_of(
    options: EncodeOptions,
    layout: Layout,
    reader: CorpusReader,
    portion: Portion | None,
    engine: EngineRecord,
) -> dict[str, Any]:
    """Everything that the bytes of the dataset, or of this part of it, depend on.

    The engine is among it: where one was given up over one document, what it made of the others does not count.

    Files are known by name and size, and on this machine by the time of their last change too: to read the text
    for its digest would take as long as half an encoding.
    """
    threshold = options.near_threshold
    listing = [[file.source, file.name, file.size_bytes] for file in reader.files]
    files = {(span.file.source, span.file.name): span.file for span in reader.spans}
    times = [[*key, file.modified_ns] for key, file in sorted(files.items())]
    return {
        "release": f"{PRODUCER_VERSION}, format {FORMAT_VERSION}",
        "tokenizer": layout.tokenizer_sha256,
        "--engine": f"{engine.name} {engine.version}",
        "end-of-text id": layout.eos_token_id,
        "--corpus": ", ".join(f"{name}:{weight:g}" for name, weight in layout.sources),
        "list of corpus files": _digest(listing),
        TIMES_FIELD: _digest(times),
        PART_FIELD: str(portion or Portion()),
        "--eos": options.eos_policy,
        "--shard-tokens": options.shard_tokens,
        "--val-fraction": float(options.val_fraction),
        "--seed": options.seed,
        "--content-field": options.content_field,
        "--dedup": options.dedup,
        "--dedup-threshold": threshold,
        "near-duplicates by": None if threshold is None else near_record(threshold),
        "--on-bad": options.on_bad,
        "seq_length_hint": options.seq_length_hint,
    }


def manifest_facts(options: EncodeOptions, tokenizer: Tokenizer) -> Mapping[str, Any]:
    """The fields of a manifest that follow from how it is encoded."""
    return {
        "normalization": tokenizer.normalization,
        "vocab_size": id_bound(tokenizer),
        "seq_length_hint": options.seq_length_hint,
        "engine": asdict(tokenizer.engine),
        "dedup": None,
    }


def _digest(value: Any) -> str:
    return sha256_bytes(canonical_json(value))
