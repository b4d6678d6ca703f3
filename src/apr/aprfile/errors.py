"""What can be wrong with an .apr file, and with what should go into one."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import EXIT_BUG, EXIT_NO_ANSWER, AprError

_COPY_AGAIN = "the file is damaged; copy it again from where it was whole, or make it again"


@dataclass(kw_only=True, eq=False)
class NotAprFile(AprError):
    """The file's first bytes are those of something else."""

    id = "APR201"
    text = "{path} is not an .apr file but {found}"
    help = "{action}"
    path: str
    found: str
    action: str


@dataclass(kw_only=True, eq=False)
class FileTruncated(AprError):
    """The file ends before a part that it announces."""

    id = "APR202"
    text = "{path} is cut off in its {part}: it has {size_bytes} bytes and needs {required_bytes}"
    help = _COPY_AGAIN
    path: str
    part: str
    size_bytes: int
    required_bytes: int


@dataclass(kw_only=True, eq=False)
class DialectUnsupported(AprError):
    """The name .apr was used for several layouts; this is one whose contents would be read wrongly."""

    id = "APR203"
    text = "{path} is {description} (dialect {dialect}), which is not read"
    help = "{action}"
    path: str
    dialect: str
    description: str
    action: str


@dataclass(kw_only=True, eq=False)
class VersionUnsupported(AprError):
    """The header names a version of the layout that did not exist when this reader was written."""

    id = "APR204"
    text = "{path} says that it has layout version {version}, and 2.0 is the one that is read"
    help = "update apr, or make the file again with `apr import`"
    path: str
    version: str


@dataclass(kw_only=True, eq=False)
class FlagUnsupported(AprError):
    """A header flag says that the bytes mean something else than plain row-major tensors."""

    id = "APR205"
    text = "{path} has the flag {flag} (0x{bits}), which is not read"
    help = "import the original again without it"
    path: str
    flag: str
    bits: str


@dataclass(kw_only=True, eq=False)
class HeaderChecksumWrong(AprError):
    """The header does not have the checksum that it carries."""

    id = "APR206"
    text = "the header of {path} has the CRC-32 {found}, and says {expected}"
    help = _COPY_AGAIN
    path: str
    expected: str
    found: str


@dataclass(kw_only=True, eq=False)
class HeaderFieldBad(AprError):
    """A count or an offset of the header cannot be true of this file."""

    id = "APR207"
    text = "the header of {path} says {field} = {value}, which is not {limit}"
    help = _COPY_AGAIN
    path: str
    field: str
    value: int
    limit: str


@dataclass(kw_only=True, eq=False)
class MetadataBad(AprError):
    """The metadata is not a JSON object of finite values."""

    id = "APR208"
    text = "the metadata of {path} is not a plain JSON object ({reason})"
    help = "make the file again; its tensors cannot be understood without it"
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class IndexEntryBad(AprError):
    """An entry of the tensor index cannot be true."""

    id = "APR209"
    text = (
        "entry {position} of the index of {path} (tensor {tensor}) has {field} {value}, which is not {limit}"
    )
    help = _COPY_AGAIN
    path: str
    position: int
    tensor: str
    field: str
    value: str
    limit: str


@dataclass(kw_only=True, eq=False)
class IndexUnsorted(AprError):
    """The index is not sorted by name, so other readers would not find the tensor."""

    id = "APR210"
    text = "the index of {path} has {tensor} after {previous}, out of byte order"
    help = "make the file again with `apr import`"
    path: str
    tensor: str
    previous: str


@dataclass(kw_only=True, eq=False)
class TensorDuplicate(AprError):
    """Two tensors have one name."""

    id = "APR211"
    text = "{path} has the tensor {tensor} twice"
    help = "make the file again with `apr import`; which of the two is meant cannot be told"
    path: str
    tensor: str


@dataclass(kw_only=True, eq=False)
class TensorSizeWrong(AprError):
    """A tensor's stored size is not what its dtype and shape need."""

    id = "APR212"
    text = "the tensor {tensor} of {path} has {found} bytes, and {dtype} {shape} needs {expected}"
    help = "make the file again with `apr import`; the dtype or the shape is not the real one"
    path: str
    tensor: str
    dtype: str
    shape: str
    expected: str
    found: int


@dataclass(kw_only=True, eq=False)
class TensorOutOfBounds(AprError):
    """A tensor lies, wholly or partly, behind the end of the file."""

    id = "APR213"
    text = "the tensor {tensor} of {path} ends at byte {end_bytes}, and the file has {size_bytes}"
    help = _COPY_AGAIN
    path: str
    tensor: str
    end_bytes: int
    size_bytes: int


@dataclass(kw_only=True, eq=False)
class TensorsOverlap(AprError):
    """Two tensors share bytes and are no tied head, so that training one would change the other."""

    id = "APR214"
    text = "the tensors {first} and {second} of {path} share bytes"
    help = "make the file again with `apr import`; only the head and the embedding may share"
    path: str
    first: str
    second: str


@dataclass(kw_only=True, eq=False)
class TieBroken(AprError):
    """The head is stored as the embedding's twin, but the embedding does not fit it."""

    id = "APR215"
    text = "{path} stores {head} as a twin of {target}, but the twin is {expected} and {target} is {found}"
    help = "make the file again with `apr import`"
    path: str
    head: str
    target: str
    expected: str
    found: str


@dataclass(kw_only=True, eq=False)
class TrailingBytes(AprError):
    """The file goes on behind its end."""

    id = "APR216"
    text = "{path} has {size_bytes} bytes, and its contents end at {required_bytes} (4 more with a footer)"
    help = _COPY_AGAIN
    path: str
    size_bytes: int
    required_bytes: int


@dataclass(kw_only=True, eq=False)
class PaddingNotZero(AprError):
    """A byte that belongs to nothing is not zero."""

    id = "APR217"
    text = "byte {offset} of {path}, padding behind {part}, is not zero"
    help = _COPY_AGAIN
    path: str
    part: str
    offset: int


@dataclass(kw_only=True, eq=False)
class FooterChecksumWrong(AprError):
    """The file does not have the checksum that its footer carries."""

    id = "APR218"
    text = "{path} has the CRC-32 {found}, and its footer says {expected}"
    help = _COPY_AGAIN
    path: str
    expected: str
    found: str


@dataclass(kw_only=True, eq=False)
class TensorDigestWrong(AprError):
    """A tensor's bytes are not those that were written."""

    id = "APR219"
    text = "the tensor {tensor} of {path} has the sha256 {found:.12}, and the metadata says {expected:.12}"
    help = _COPY_AGAIN
    path: str
    tensor: str
    expected: str
    found: str


@dataclass(kw_only=True, eq=False)
class DigestsIncomplete(AprError):
    """The digests and the tensors are not the same set, so a swapped tensor could pass."""

    id = "APR220"
    text = (
        "{path} has no digest of the tensors {without_digest}, and no tensor for the digests {without_tensor}"
    )
    help = "make the file again with `apr import`"
    path: str
    without_digest: str
    without_tensor: str


@dataclass(kw_only=True, eq=False)
class TensorUnknown(AprError):
    """The file has no tensor of that name."""

    id = "APR221"
    text = "{path} has no tensor {tensor}"
    help = "the nearest name is {nearest}"
    path: str
    tensor: str
    nearest: str


@dataclass(kw_only=True, eq=False)
class TensorNotFloat(AprError):
    """A tensor's stored form cannot be widened to fp32 without guessing."""

    id = "APR222"
    text = "the tensor {tensor} of {path} is {dtype}, which has no exact fp32 form here ({reason})"
    help = "import the original again with --dtype f32, f16 or bf16"
    path: str
    tensor: str
    dtype: str
    reason: str


@dataclass(kw_only=True, eq=False)
class TensorNotWritable(AprError):
    """A tensor handed to the writer is not what it was announced to be, or cannot be stored."""

    id = "APR223"
    text = "the tensor {tensor} has {field} {value}, which is not {limit}"
    help = "nothing was written; report it if the tensor came from `apr` itself"
    tensor: str
    field: str
    value: str
    limit: str


@dataclass(kw_only=True, eq=False)
class WrittenBytesDiffer(AprError):
    """What was read back is not what was written: the disk or the memory is at fault."""

    id = "APR224"
    text = "{part} of {path} was written with the sha256 {expected:.12} and read back with {found:.12}"
    help = "nothing was left; check the disk and the memory of this machine"
    exit_code = EXIT_NO_ANSWER
    path: str
    part: str
    expected: str
    found: str


@dataclass(kw_only=True, eq=False)
class FileClosed(AprError):
    """A tensor was asked of a file that had been closed: a defect of the calling program."""

    id = "APR225"
    text = "{path} was closed before its tensor {tensor} was read"
    help = "report it"
    exit_code = EXIT_BUG
    path: str
    tensor: str


@dataclass(kw_only=True, eq=False)
class FactsBad(AprError):
    """The description of the model inside the file is incomplete or of the wrong kind."""

    id = "APR226"
    text = "{path} says {field} = {value}, which is not {limit}"
    help = "make the file again with `apr import`"
    path: str
    field: str
    value: str
    limit: str


@dataclass(kw_only=True, eq=False)
class MetadataContradiction(AprError):
    """The file describes its model twice, in two ways; one of them would train another model."""

    id = "APR227"
    text = "{path} contradicts itself: {differences}"
    help = "make the file again with `apr import`; which of the two is true cannot be told"
    path: str
    fields: str
    differences: str


@dataclass(kw_only=True, eq=False)
class ArchContradiction(AprError):
    """The config says one thing and the tensors another."""

    id = "APR228"
    text = "the config of {source} contradicts its tensors: {differences}"
    help = "import the checkpoint again with its own config; the tensors are what will be trained"
    source: str
    fields: str
    differences: str


@dataclass(kw_only=True, eq=False)
class TokenizerDigestWrong(AprError):
    """The tokenizer inside the file is not the one that was put there."""

    id = "APR229"
    text = "the tokenizer of {path} has the sha256 {found:.12}, and the metadata says {expected:.12}"
    help = _COPY_AGAIN
    path: str
    expected: str
    found: str


@dataclass(kw_only=True, eq=False)
class TensorNamesForeign(AprError):
    """The tensors have GGUF names, whose rows may be permuted and whose roles differ."""

    id = "APR230"
    text = "{path} has tensors with GGUF names ({tensor})"
    help = "import the GGUF itself with `apr import`; it undoes what the format permutes"
    path: str
    tensor: str


@dataclass(kw_only=True, eq=False)
class ProducerUnsupported(AprError):
    """A program wrote the file whose tensors have other bytes than their shapes say."""

    id = "APR231"
    text = "{path} was written as {format}: {reason}"
    help = "import the checkpoint that it was trained from, or export it with the program that wrote it"
    path: str
    format: str
    reason: str
