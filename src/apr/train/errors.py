"""What a run refuses, and how it ends badly."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import EXIT_NO_ANSWER, AprError


@dataclass(kw_only=True, eq=False)
class DeviceUnknown(AprError):
    """`--device` is not one of the words it takes."""

    id = "APR601"
    text = "--device {device} is not cpu, cuda, cuda:0 to cuda:15 or auto"
    help = "give one of those"
    exit_code = EXIT_NO_ANSWER
    device: str


@dataclass(kw_only=True, eq=False)
class DeviceAbsent(AprError):
    """The asked device is not in this machine; only `auto` may fall back."""

    id = "APR602"
    text = "--device {device} was asked for, but {reason}"
    help = "give --device cpu, or auto to let apr choose"
    exit_code = EXIT_NO_ANSWER
    device: str
    reason: str


@dataclass(kw_only=True, eq=False)
class RunDirInUse(AprError):
    """Another process holds the run directory."""

    id = "APR603"
    text = "the run directory {path} is in use by process {holder}"
    help = "wait for it, or name another --run-dir"
    exit_code = EXIT_NO_ANSWER
    path: str
    holder: str


@dataclass(kw_only=True, eq=False)
class RunDirNotEmpty(AprError):
    """The run directory holds an earlier run."""

    id = "APR604"
    text = "the run directory {path} already holds {found}"
    help = "name another --run-dir; nothing there was changed"
    exit_code = EXIT_NO_ANSWER
    path: str
    found: str


@dataclass(kw_only=True, eq=False)
class TooFewWindows(AprError):
    """The run asks for more training windows than the corpus has."""

    id = "APR605"
    text = "{num_steps} steps take {needed} windows of {seq_length} tokens, and the dataset {path} has {available}"
    help = "lower --num-steps or --seq-length, encode more text, or give --allow-shard-cycle to repeat it"
    num_steps: int
    needed: int
    seq_length: int
    path: str
    available: int


@dataclass(kw_only=True, eq=False)
class NotEnoughMemory(AprError):
    """The estimate exceeds what the machine can give."""

    id = "APR606"
    text = "training takes about {needed_mb} MB of memory and {available_mb} MB are free"
    help = "lower --batch-size or --seq-length, or use a larger machine"
    needed_mb: int
    available_mb: int


@dataclass(kw_only=True, eq=False)
class NotEnoughDisk(AprError):
    """The checkpoints of the run would not fit on the disk."""

    id = "APR641"
    text = "the checkpoints take about {needed_mb} MB in {path} and {available_mb} MB are free there"
    help = "raise --steps-per-epoch, free space, or name a --run-dir on another disk"
    path: str
    needed_mb: int
    available_mb: int


@dataclass(kw_only=True, eq=False)
class NotFinite(AprError):
    """Loss or gradient became NaN or infinite; the update was not made."""

    id = "APR611"
    text = "{figure} became {value} in step {step}; the update was not made"
    help = "lower --lr, or look at the data of that step; checkpoints before it are intact"
    figure: str
    value: str
    step: int


@dataclass(kw_only=True, eq=False)
class LossDiverged(AprError):
    """A validation loss left its bounds (INV-TRAIN-005)."""

    id = "APR612"
    text = "the validation loss of epoch {epoch} is {value:.4f}, above the limit {limit:.4f}"
    help = "lower --lr, or look at the data; checkpoints before it are intact"
    epoch: int
    value: float
    limit: float


@dataclass(kw_only=True, eq=False)
class SpikeFound(AprError):
    """A training loss or gradient norm jumped; the update was not made."""

    id = "APR615"
    text = (
        "{figure} jumped to {value:.4f} in step {step}, above the limit {limit:.4f}; the update was not made"
    )
    help = (
        "look at the data of that step, or start anew with --spike skip:N; checkpoints before it are intact"
    )
    step: int
    figure: str
    value: float
    limit: float


@dataclass(kw_only=True, eq=False)
class SpikesTooMany(SpikeFound):
    """A training loss or gradient norm jumped once more than `--spike skip:N` leaves out."""

    id = "APR616"
    text = (
        "{figure} jumped to {value:.4f} in step {step}, above {limit:.4f}, after {allowed} updates left out"
    )
    help = "lower --lr, or look at the data; checkpoints before it are intact"
    allowed: int


@dataclass(kw_only=True, eq=False)
class CheckpointDiffers(AprError):
    """A checkpoint read back is not what was in memory."""

    id = "APR613"
    text = "{tensor} read back from {path} is not what was in memory"
    help = "the disk is not to be trusted; the checkpoint before it is intact"
    path: str
    tensor: str


@dataclass(kw_only=True, eq=False)
class TokensMiscounted(AprError):
    """The run ended having consumed another number of tokens than planned."""

    id = "APR614"
    text = "{planned} tokens were planned and {consumed} consumed"
    help = "report it: the loop or the data stream is wrong"
    planned: int
    consumed: int


@dataclass(kw_only=True, eq=False)
class VocabularyMismatch(AprError):
    """The tokenizer and the model do not fit each other."""

    id = "APR621"
    text = "the tokenizer {tokenizer} has {tokenizer_size} entries, and the model takes {limit}"
    help = "use the tokenizer that the model was trained with"
    tokenizer: str
    tokenizer_size: int
    limit: str


@dataclass(kw_only=True, eq=False)
class TokenizerMismatch(AprError):
    """The shards were made by another tokenizer than the model's."""

    id = "APR622"
    text = "the shards in {dataset} were made by the tokenizer {found}, and the model's is {expected}"
    help = "encode the corpus again with `apr tokenize encode-corpus --tokenizer MODEL.apr`"
    dataset: str
    found: str
    expected: str


@dataclass(kw_only=True, eq=False)
class TokenIdTooLarge(AprError):
    """A shard holds an id without a row in the model's embedding."""

    id = "APR623"
    text = "the shards in {dataset} hold the token id {found}, and the model has ids below {limit}"
    help = "encode the corpus again with the model's own tokenizer"
    dataset: str
    found: int
    limit: int


@dataclass(kw_only=True, eq=False)
class NoTokenizer(AprError):
    """The checkpoint holds no tokenizer and none was named."""

    id = "APR624"
    text = "{source} holds no tokenizer"
    help = "import the checkpoint again with --tokenizer PATH; apr pretrain takes that option too"
    exit_code = EXIT_NO_ANSWER
    source: str


@dataclass(kw_only=True, eq=False)
class NoValidation(AprError):
    """The dataset has no validation split and none was named."""

    id = "APR625"
    text = "the dataset {dataset} has no validation split in {expected}"
    help = "encode it with --val-fraction above 0, or give --val-shard DIR"
    exit_code = EXIT_NO_ANSWER
    dataset: str
    expected: str


@dataclass(kw_only=True, eq=False)
class SequenceBeyondModel(AprError):
    """The window is longer than what the model can attend over."""

    id = "APR626"
    text = "--seq-length {seq_length} is longer than the model's {limit_name} of {limit}"
    help = "lower --seq-length"
    seq_length: int
    limit_name: str
    limit: int


@dataclass(kw_only=True, eq=False)
class NothingToResume(AprError):
    """`--resume` names a directory in which no run can go on."""

    id = "APR631"
    text = "no run can be resumed in {path}: {reason}"
    help = "start a run without --resume, in a new --run-dir"
    exit_code = EXIT_NO_ANSWER
    path: str
    reason: str


@dataclass(kw_only=True, eq=False)
class ResumeDiffers(AprError):
    """An option of a resumed run is not what its plan says."""

    id = "APR632"
    text = "{option} {asked} was given, and the run in {path} was planned with {planned}"
    help = "leave the option out to go on as planned, or start a new run with --init from a checkpoint of this one"
    exit_code = EXIT_NO_ANSWER
    option: str
    asked: str
    planned: str
    path: str


@dataclass(kw_only=True, eq=False)
class StateBad(AprError):
    """A saved state cannot be gone on from."""

    id = "APR633"
    text = "the state after step {step} cannot be used: {path}: {reason}"
    help = "remove the folder of that state to go on from the one before it, if there is one"
    path: str
    step: int
    reason: str


@dataclass(kw_only=True, eq=False)
class MetricsChanged(AprError):
    """metrics.jsonl is not what it was when the state was saved."""

    id = "APR634"
    text = "{path} does not begin with the {num_bytes} bytes that it had when step {step} was saved"
    help = "put the file back as it was; a resumed run continues it without gap or repetition"
    path: str
    num_bytes: int
    step: int


@dataclass(kw_only=True, eq=False)
class RanksUneven(AprError):
    """The windows of a step cannot be dealt out evenly to the processes of the run."""

    id = "APR661"
    text = "a step of {num_windows} windows cannot be shared evenly by {num_ranks} processes"
    help = "choose --batch-size and --grad-accum so that the number of processes divides their product"
    exit_code = EXIT_NO_ANSWER
    num_windows: int
    num_ranks: int


@dataclass(kw_only=True, eq=False)
class RanksDiffer(AprError):
    """Two processes of a run do not hold the same."""

    id = "APR662"
    text = "the {what} of process {rank} is {found}, and that of process 0 is {expected}"
    help = (
        "nothing after the last saved state can be trusted: go on from there with --resume, on other machines"
    )
    what: str
    rank: int
    found: str
    expected: str


@dataclass(kw_only=True, eq=False)
class RankLost(AprError):
    """Another process of the run ended or cannot be reached."""

    id = "APR663"
    text = "another process of this run is gone ({reason})"
    help = "what it said tells why; go on from the last saved state with --resume, on any number of processes"
    exit_code = EXIT_NO_ANSWER
    reason: str


@dataclass(kw_only=True, eq=False)
class WindowsMisdealt(AprError):
    """A run's processes, one or several, did not take exactly the windows of a step, each once."""

    id = "APR664"
    text = "the windows of step {step} were not taken once each ({num_ranks} processes take them)"
    help = "go on from the last saved state with --resume, on one process, and report it"
    step: int
    num_ranks: int
