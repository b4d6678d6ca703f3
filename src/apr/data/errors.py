"""What can be wrong with a corpus, its token shards, or a plan over them."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import EXIT_NO_ANSWER, AprError


@dataclass(kw_only=True, eq=False)
class CorpusMissing(AprError):
    """A corpus path is neither a file nor a folder."""

    id = "APR421"
    text = "the corpus path {path} is neither a file nor a folder"
    help = "check the path"
    exit_code = EXIT_NO_ANSWER
    path: str


@dataclass(kw_only=True, eq=False)
class GlobMatchesNothing(AprError):
    """A corpus folder holds no file that the pattern selects."""

    id = "APR422"
    text = "no file in {folder} matches {glob}"
    help = "give another --glob, or leave the folder out"
    folder: str
    glob: str


@dataclass(kw_only=True, eq=False)
class TextNotUtf8(AprError):
    """A corpus file holds bytes that are not UTF-8 text; guessing an encoding would change the text."""

    id = "APR423"
    text = "{place} is not UTF-8 text at byte {byte_offset} ({reason})"
    help = "convert it to UTF-8, narrow --glob, or give --on-bad skip to leave it out and count it"
    place: str  # the file, or file:line
    byte_offset: int  # from the start of the file, after decompression
    reason: str


@dataclass(kw_only=True, eq=False)
class RecordNotJson(AprError):
    """A line of a JSONL file is not a JSON object."""

    id = "APR424"
    text = "{path}:{line} is not a JSON object ({reason})"
    help = "correct the line, or give --on-bad skip to leave such lines out and count them"
    path: str
    line: int
    reason: str


@dataclass(kw_only=True, eq=False)
class RecordFieldMissing(AprError):
    """A JSONL record lacks the field that holds the text."""

    id = "APR425"
    text = "{path}:{line} has no field {field}, only {found}"
    help = "name the field that holds the text with --content-field, or give --on-bad skip"
    path: str
    line: int
    field: str
    found: str


@dataclass(kw_only=True, eq=False)
class RecordFieldNotText(AprError):
    """The text field of a JSONL record is not a string of characters."""

    id = "APR426"
    text = "{path}:{line} has {kind} in the field {field}, not text"
    help = "name the field that holds the text with --content-field, or give --on-bad skip"
    path: str
    line: int
    field: str
    kind: str


@dataclass(kw_only=True, eq=False)
class CompressedFileBroken(AprError):
    """A compressed corpus file is cut off or damaged; what it lost is unknown, so none of it is skipped."""

    id = "APR427"
    text = "{path} does not decompress ({reason})"
    help = "fetch or make the file again; --on-bad skip does not pass over it, as its loss cannot be counted"
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class DocumentTooLarge(AprError):
    """One document is larger than a tokenizer can take in memory."""

    id = "APR428"
    text = "the document {place} has more than {limit_bytes} bytes"
    help = "split it into documents: one a file, or one a line of JSONL"
    place: str
    limit_bytes: int


@dataclass(kw_only=True, eq=False)
class CorpusEmpty(AprError):
    """The corpus holds no document with text in it."""

    id = "APR429"
    text = "the corpus has no text (files {num_files}, empty documents {num_empty}, skipped as bad {num_skipped})"
    help = "check the paths, --glob and --content-field"
    num_files: int
    num_empty: int
    num_skipped: int


@dataclass(kw_only=True, eq=False)
class SplitEmpty(AprError):
    """The split left one side without a document."""

    id = "APR430"
    text = "--val-fraction {fraction} gives {num_train} training and {num_validation} validation documents"
    help = "encode with another --val-fraction, every part anew if there are parts; or with 0, and give --val-shard"
    fraction: float
    num_train: int
    num_validation: int


@dataclass(kw_only=True, eq=False)
class EndOfTextMissing(AprError):
    """Documents are to be separated, but the tokenizer does not say by which id; it is never guessed."""

    id = "APR431"
    text = "--eos {policy} needs an end-of-text id, and the tokenizer names none"
    help = "name the token with --eos-token, or give --eos none"
    policy: str


@dataclass(kw_only=True, eq=False)
class RoundTripBroken(AprError):
    """The ids of a document do not decode back to its text."""

    id = "APR432"
    text = "the ids of {origin} do not give its text back: at character {position} {expected} became {found}"
    help = "use the tokenizer that belongs to the checkpoint; this one loses text"
    origin: str
    position: int
    expected: str
    found: str


@dataclass(kw_only=True, eq=False)
class UnknownTokens(AprError):
    """Too much of the corpus became the unknown token."""

    id = "APR433"
    text = "{num_unknown} of {num_tokens} tokens are the unknown token, more than {limit}"
    help = "use a tokenizer that covers this corpus"
    num_unknown: int
    num_tokens: int
    limit: str


@dataclass(kw_only=True, eq=False)
class TokenIdTooLarge(AprError):
    """The tokenizer gave an id that its own vocabulary does not hold."""

    id = "APR434"
    text = "{origin} encodes to the id {token_id}, which is not from 0 to {vocab_size} - 1"
    help = "use a whole tokenizer; the vocabulary of this one contradicts its ids"
    origin: str
    token_id: int
    vocab_size: int


@dataclass(kw_only=True, eq=False)
class ManifestMissing(AprError):
    """A dataset folder has no manifest, so nothing says which tokenizer its ids belong to."""

    id = "APR435"
    text = "{folder} has no manifest.json"
    help = "make the dataset with `apr tokenize encode-corpus`; shards alone do not say what their ids mean"
    exit_code = EXIT_NO_ANSWER
    folder: str


@dataclass(kw_only=True, eq=False)
class DatasetUnfinished(AprError):
    """The encoding of this dataset was not finished."""

    id = "APR436"
    text = "the dataset {folder} is not finished: its manifest says that it is in progress"
    help = "wait for its encoder, or run `apr tokenize encode-corpus` again, which goes on where it stopped"
    folder: str


@dataclass(kw_only=True, eq=False)
class ManifestFieldMissing(AprError):
    """A manifest lacks fields; none is ever defaulted."""

    id = "APR437"
    text = "{source} lacks {fields}"
    help = "make the dataset again with `apr tokenize encode-corpus`"
    source: str
    fields: str


@dataclass(kw_only=True, eq=False)
class ManifestFieldUnknown(AprError):
    """A manifest has a field that nothing reads."""

    id = "APR438"
    text = "{source} has the unknown field {field}"
    help = "use the release that wrote it, or make the dataset again; the nearest known field is {nearest}"
    source: str
    field: str
    nearest: str


@dataclass(kw_only=True, eq=False)
class ManifestValueBad(AprError):
    """A manifest value is out of range or contradicts another."""

    id = "APR439"
    text = "{source} says {field} = {value}, which is not {limit}"
    help = "make the dataset again with `apr tokenize encode-corpus`"
    source: str
    field: str
    value: str
    limit: str


@dataclass(kw_only=True, eq=False)
class ShardMissing(AprError):
    """A shard that the manifest lists is not there."""

    id = "APR440"
    text = "{path} is in the manifest but not in the folder"
    help = "copy the dataset again, whole"
    exit_code = EXIT_NO_ANSWER
    path: str


@dataclass(kw_only=True, eq=False)
class ShardNotWhole(AprError):
    """A shard's size is not a whole number of tokens."""

    id = "APR441"
    text = "{path} has {size_bytes} bytes, which is not a multiple of {token_bytes}"
    help = "copy the dataset again; the file is cut off, or is no shard of little-endian u32"
    path: str
    size_bytes: int
    token_bytes: int


@dataclass(kw_only=True, eq=False)
class ShardSizeChanged(AprError):
    """A shard holds another number of tokens than the manifest says."""

    id = "APR442"
    text = "{path} holds {found_tokens} tokens, but the manifest says {manifest_tokens}"
    help = "copy the dataset again, or make it again with `apr tokenize encode-corpus`"
    path: str
    found_tokens: int
    manifest_tokens: int


@dataclass(kw_only=True, eq=False)
class ShardChanged(AprError):
    """A shard's bytes are not those that the manifest was written for."""

    id = "APR443"
    text = "{path} has sha256 {found:.12}, but the manifest says {manifest:.12}"
    help = "copy the dataset again, or make it again with `apr tokenize encode-corpus`"
    path: str
    found: str
    manifest: str


@dataclass(kw_only=True, eq=False)
class ShardUnexpected(AprError):
    """The folder holds a shard that the manifest does not list; whether it was meant is unknown."""

    id = "APR444"
    text = "{path} is in the folder but not in the manifest"
    help = "remove it, or make the dataset again with `apr tokenize encode-corpus`"
    path: str


@dataclass(kw_only=True, eq=False)
class ShardIdTooLarge(AprError):
    """A shard holds an id outside the vocabulary that the manifest names."""

    id = "APR445"
    text = (
        "{path} holds the id {token_id} at token {position}, and ids of its vocabulary are below {vocab_size}"
    )
    help = "make the dataset again with the tokenizer of the checkpoint; ids are never clamped"
    path: str
    token_id: int
    position: int
    vocab_size: int


@dataclass(kw_only=True, eq=False)
class DocumentsChanged(AprError):
    """The file of document offsets is missing, or is not the one that the manifest was written for."""

    id = "APR446"
    text = "{path} does not belong to the manifest ({reason})"
    help = "copy the dataset again, or make it again with `apr tokenize encode-corpus`"
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class CorpusShorterThanWindow(AprError):
    """The dataset does not fill one training window."""

    id = "APR447"
    text = (
        "{folder} has {num_tokens} tokens, and one window of --seq-length {seq_length} takes {needed_tokens}"
    )
    help = "give a smaller --seq-length, or a larger corpus"
    folder: str
    num_tokens: int
    needed_tokens: int
    seq_length: int


@dataclass(kw_only=True, eq=False)
class StreamExhausted(AprError):
    """The batch stream has no whole batch left; a placeholder loss would hide it."""

    id = "APR449"
    text = (
        "the batch of {batch_size} windows after window {cursor} does not fit in the corpus of {num_windows}"
    )
    help = "plan fewer steps, give more text, or allow repetition with --allow-shard-cycle"
    cursor: int
    num_windows: int
    batch_size: int


@dataclass(kw_only=True, eq=False)
class ShardChangedInUse(AprError):
    """A shard was written to, cut or replaced while a run read it."""

    id = "APR451"
    text = "{path} changed while the run was reading it ({reason})"
    help = "the last checkpoint is whole: put the shard back, and go on with --resume"
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class EncodingDiffers(AprError):
    """The folder holds an encoding that was stopped, and it is not the one that this command would go on with."""

    id = "APR450"
    text = "{folder} holds an unfinished encoding with another {field}: {found}, not {given}"
    help = "run the command that began it, which goes on where it stopped, or give --force to begin anew"
    exit_code = EXIT_NO_ANSWER
    folder: str
    field: str
    found: str
    given: str


@dataclass(kw_only=True, eq=False)
class EncodingStateBroken(AprError):
    """What a stopped encoder left is not what it had put on the disk, so nobody can go on from it."""

    id = "APR460"
    text = "the unfinished encoding at {path} cannot be taken up ({reason})"
    help = "give --force to begin anew"
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class EncodingRuns(AprError):
    """Another process is encoding into the folder; two would spoil each other's shards."""

    id = "APR452"
    text = "another process is encoding into {folder}"
    help = "wait for it, stop it, or name another output"
    exit_code = EXIT_NO_ANSWER
    folder: str


@dataclass(kw_only=True, eq=False)
class DatasetIsPart(AprError):
    """The folder holds one of several parts of a dataset, which is no dataset before they are merged."""

    id = "APR453"
    text = "{folder} is part {index} of {count} of a dataset"
    help = "make the dataset of all its parts with `apr data merge PART... -o DIR`"
    folder: str
    index: int
    count: int


@dataclass(kw_only=True, eq=False)
class NotAPart(AprError):
    """A folder to merge holds no finished part."""

    id = "APR454"
    text = "{folder} holds no finished part of a dataset ({reason})"
    help = "make it with `apr tokenize encode-corpus --part i/n`"
    exit_code = EXIT_NO_ANSWER
    folder: str
    reason: str


@dataclass(kw_only=True, eq=False)
class PartMissing(AprError):
    """Not all parts are given, so the dataset would lack documents."""

    id = "APR455"
    text = "part {missing} of {count} is not among the folders given"
    help = "give the folders of all {count} parts, in any order"
    exit_code = EXIT_NO_ANSWER
    missing: str
    count: int


@dataclass(kw_only=True, eq=False)
class PartTwice(AprError):
    """Two folders hold the same part."""

    id = "APR456"
    text = "{first} and {second} are both part {index} of {count}"
    help = "leave one of them out"
    exit_code = EXIT_NO_ANSWER
    first: str
    second: str
    index: int
    count: int


@dataclass(kw_only=True, eq=False)
class PartForeign(AprError):
    """A part was made of another corpus, with another tokenizer, or with other options than the first one."""

    id = "APR457"
    text = "{folder} was made with another {field} than {first}: {found}, not {expected}"
    help = "leave it out, or make all parts by the same command with the same files"
    folder: str
    first: str
    field: str
    found: str
    expected: str


@dataclass(kw_only=True, eq=False)
class PartChanged(AprError):
    """A file of a part is not the one that its encoder wrote."""

    id = "APR458"
    text = "{path} has sha256 {found:.12}, but its part says {recorded:.12}"
    help = "copy the part again, or make it again"
    path: str
    found: str
    recorded: str


@dataclass(kw_only=True, eq=False)
class ParquetBroken(AprError):
    """A parquet file is cut off or damaged; what it lost is unknown, so none of it is skipped."""

    id = "APR459"
    text = "{path} does not read as parquet ({reason})"
    help = "fetch or make the file again; --on-bad skip does not pass over it, as its loss cannot be counted"
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class NoSeparators(AprError):
    """Attention is to stay inside documents, and the dataset does not say where they end."""

    id = "APR461"
    text = "--document-mask needs end-of-text separators, and the dataset {folder} was made without"
    help = "encode the corpus again with --eos after or --eos between, or leave --document-mask out"
    folder: str


@dataclass(kw_only=True, eq=False)
class DedupInParts(AprError):
    """A part of a corpus does not know the documents of the parts before it, so it cannot tell copies."""

    id = "APR462"
    text = "--dedup cannot go with --part {part}: a part does not know the documents of the others"
    help = "encode the corpus in one run, or leave --dedup out; apr data audit counts the copies in a merged dataset"
    exit_code = EXIT_NO_ANSWER
    part: str
