"""An encoder that is killed at any moment goes on where it stopped, to the bytes of an undisturbed run."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from apr.base.errors import Interrupted, OutputExists
from apr.data import encode
from apr.data.encode import encode_corpus, encode_part
from apr.data.encode_options import EncodeOptions
from apr.data.errors import DatasetUnfinished, EncodingDiffers, EncodingRuns, EncodingStateBroken
from apr.data.journal import only_encoder
from apr.data.shards import open_dataset
from apr.data.spans import Portion
from apr.data.writer import DUPLICATES_NAME, JOURNAL_NAME, LEDGER_NAME, STATE_FOLDER
from byte_tokenizer import ByteTokenizer
from killed_encoder import OPTIONS, WITHOUT

OPTIONS_AS_DICT = {"shard_tokens": 1000, "val_fraction": 0.3, "on_bad": "skip"}
PROGRAM = Path(__file__).parents[1] / "killed_encoder.py"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # as in the other process: see there


def write_corpus(folder: Path) -> list[Path]:
    """Every kind of file, with bad and empty records between the good ones."""
    folder.mkdir()
    lines = [json.dumps({"content": f"document {i} " + "x" * (i * 37 % 300)}) for i in range(120)]
    lines[5], lines[40], lines[119] = "", "bad", '{"content": ""}'
    content = "".join(line + "\n" for line in lines).encode()
    (folder / "a.jsonl").write_bytes(content)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(content.replace(b"document", b"compressed")))
    for i in range(20):
        (folder / f"c{i:02d}.txt").write_text(f"text {i}\n" * (i * 5 % 17))
    return [folder]


def encoder(corpus: list[Path], out: Path, last: int = 0, portion: str = "") -> subprocess.Popen[str]:
    tests, src = PROGRAM.parent, Path(encode.__file__).parents[2]
    paths = ",".join(map(str, corpus))
    command = [sys.executable, str(PROGRAM), paths, str(out), portion, str(last)]
    environment = {**os.environ, "PYTHONPATH": f"{src}{os.pathsep}{tests}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def run_encoder(corpus: list[Path], out: Path, last: int = 0, portion: str = "") -> tuple[int, str]:
    with encoder(corpus, out, last, portion) as process:
        said = process.communicate(timeout=120)[0]
        return process.returncode, said


def contents(folder: Path) -> dict[str, object]:
    """Every file of a folder, without the seconds."""

    def content(path: Path) -> object:
        if path.suffix != ".json":
            return path.read_bytes()
        values = json.loads(path.read_bytes())
        for place in (values, values.get("record", {})):
            place.pop("elapsed_s", None)
        values.get("record", {}).get("plan", {}).pop("time of a corpus file", None)
        return values

    return {str(path.relative_to(folder)): content(path) for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "text")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, corpus):
    """The dataset of a run that nobody stopped, and the number of moments at which it could have been."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    code, said = run_encoder(corpus, out)
    assert code == 0
    assert len(list(out.glob("shard-*.bin"))) > 5
    return out, int(said)


def go_on(corpus: list[Path], out: Path, options: EncodeOptions = OPTIONS, **more) -> int:
    """Go on in this process; returns the tokens that it had not to encode again."""
    try:
        return encode_corpus(corpus, ByteTokenizer(), out, options=options, **more).num_tokens_before
    except OutputExists:  # it was killed behind its last step
        return open_dataset(out).total_tokens


def test_killed_at_twenty_random_moments(tmp_path, corpus, undisturbed):
    expected, num_moments = undisturbed
    draw = random.Random(7)
    taken_up = 0
    for number, moment in enumerate(draw.sample(range(1, num_moments + 1), 20)):
        out = tmp_path / f"out{number}"
        code, _ = run_encoder(corpus, out, moment)
        assert code == -signal.SIGKILL, moment
        taken_up += go_on(corpus, out) > 0
        assert contents(out) == contents(expected), moment
        assert names(out) == names(expected), moment
    assert taken_up > 10


def write_likenesses(path: Path) -> Path:
    """Twenty texts in three versions each, between which a word differs."""
    texts = [[f"{text} and {word}" for word in range(90)] for text in range(20)]
    for version in (1, 2):
        texts += [[*words[: 7 * version], "new", *words[7 * version :]] for words in texts[:20]]
    path.write_text("".join(json.dumps({"content": " ".join(words)}) + "\n" for words in texts))
    return path


@pytest.mark.parametrize(("kind", "num_moments"), [("exact", 20), ("near", 10)])
def test_killed_while_it_leaves_out_copies(tmp_path, corpus, kind, num_moments):
    """The corpus twice, so that all of the second source are copies, and another list is written beside the shards."""
    twice, whole = [*corpus, *corpus, write_likenesses(tmp_path / "alike.jsonl")], tmp_path / "whole"
    code, said = run_encoder(twice, whole, portion=kind)
    assert code == 0
    rows = (whole / DUPLICATES_NAME).read_text().splitlines()
    assert len(rows) > 100
    assert sum("resembles" in row for row in rows) >= (40 if kind == "near" else 0)
    draw, taken_up = random.Random(3), 0
    last = list(range(int(said) - 12, int(said) + 1))
    for moment in [*draw.sample(range(1, int(said) - 12), num_moments), *last]:
        out = tmp_path / f"out{moment}"
        assert run_encoder(twice, out, moment, portion=kind)[0] == -signal.SIGKILL
        taken_up += go_on(twice, out, WITHOUT[kind]) > 0
        assert contents(out) == contents(whole), moment
        assert names(out) == names(whole), moment
    assert taken_up > num_moments


@pytest.mark.parametrize("from_end", range(1, 21))
def test_killed_at_each_of_the_last_moments(tmp_path, corpus, undisturbed, from_end):
    expected, num_moments = undisturbed
    out = tmp_path / "out"
    assert run_encoder(corpus, out, num_moments + 1 - from_end)[0] == -signal.SIGKILL
    assert go_on(corpus, out) > 0
    assert contents(out) == contents(expected)
    assert names(out) == names(expected)


def test_killed_again_and_again(tmp_path, corpus, undisturbed):
    expected, num_moments = undisturbed
    out = tmp_path / "out"
    kills = 0
    while run_encoder(corpus, out, num_moments // 6)[0] == -signal.SIGKILL:
        with pytest.raises(DatasetUnfinished):
            open_dataset(out)
        kills += 1
        assert kills < 20, "it does not get on"
    assert kills >= 5
    assert contents(out) == contents(expected)


def test_killed_from_outside_at_any_time(tmp_path, corpus, undisturbed):
    expected, _ = undisturbed
    draw = random.Random(3)
    for number in range(6):
        out = tmp_path / f"out{number}"
        with encoder(corpus, out) as process:
            while not (out / STATE_FOLDER / JOURNAL_NAME).exists() and process.poll() is None:
                pass
            try:
                process.wait(draw.uniform(0, 0.15))
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
        go_on(corpus, out)
        assert contents(out) == contents(expected)


def test_a_part_goes_on_too(tmp_path, corpus):
    def whole(out):
        with suppress(OutputExists):  # it was killed behind its last step
            encode_part(corpus, ByteTokenizer(), out, options=OPTIONS, portion=Portion(index=2, count=3))
        return contents(out)

    code, said = run_encoder(corpus, tmp_path / "whole", portion="2/3")
    assert code == 0
    expected = contents(tmp_path / "whole")
    moments = [*random.Random(5).sample(range(1, int(said)), 6), *range(int(said) - 6, int(said) + 1)]
    for moment in moments:
        out = tmp_path / f"out{moment}"
        assert run_encoder(corpus, out, moment, "2/3")[0] == -signal.SIGKILL
        assert whole(out) == expected, moment
        assert names(out) == names(tmp_path / "whole")


@pytest.fixture
def stopped(tmp_path, corpus, undisturbed):
    """An encoding that was killed half way."""
    out = tmp_path / "stopped"
    assert run_encoder(corpus, out, undisturbed[1] // 2)[0] == -signal.SIGKILL
    assert (out / STATE_FOLDER / JOURNAL_NAME).is_file()
    return out


CHANGES = {
    "--seed": {"seed": 43},
    "--val-fraction": {"val_fraction": 0.2},
    "--shard-tokens": {"shard_tokens": 999},
    "--eos": {"eos_policy": "between"},
    "--on-bad": {"on_bad": "fail"},
    "--content-field": {"content_field": "text"},
}


@pytest.mark.parametrize("field", CHANGES)
def test_another_option_is_refused_by_its_name(stopped, corpus, field):
    before = contents(stopped)
    with pytest.raises(EncodingDiffers) as caught:
        go_on(corpus, stopped, EncodeOptions(**{**OPTIONS_AS_DICT, **CHANGES[field]}))
    assert (caught.value.field, caught.value.exit_code) == (field, 2)
    assert contents(stopped) == before


def test_another_corpus_or_tokenizer_is_refused(tmp_path, stopped, corpus, make_byte_tokenizer, undisturbed):
    copy = tmp_path / "text"
    shutil.copytree(corpus[0], copy)
    go_on([copy], shutil.copytree(stopped, tmp_path / "moved"))  # the same files in another place
    file = copy / "c10.txt"
    content, stat = file.read_bytes(), file.stat()
    faults = {
        "time of a corpus file": lambda: os.utime(file, ns=(0, 0)),
        "list of corpus files": lambda: file.write_bytes(content + b"more"),
    }
    for field, change in faults.items():
        change()
        with pytest.raises(EncodingDiffers) as caught:
            go_on([copy], stopped)
        assert caught.value.field == field
        file.write_bytes(content)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(EncodingDiffers) as caught:
        go_on([*corpus, copy / "a.jsonl"], stopped)
    assert caught.value.field == "--corpus"
    other = make_byte_tokenizer(normalizer={"type": "NFC"})
    with pytest.raises(EncodingDiffers) as caught:
        encode_corpus(corpus, other, stopped, options=OPTIONS)
    assert caught.value.field == "tokenizer"
    assert go_on([copy], stopped, force=True) == 0
    assert contents(stopped) == contents(undisturbed[0])


DAMAGES = {
    "a shard cut off": lambda out: os.truncate(out / "shard-00000.bin", 10),
    "a shard gone": lambda out: (out / "shard-00001.bin").unlink(),
    "the offsets cut off": lambda out: os.truncate(out / "documents.bin", 8),
    "the ledger gone": lambda out: (out / STATE_FOLDER / LEDGER_NAME).unlink(),
    "the journal cut off": lambda out: os.truncate(out / STATE_FOLDER / JOURNAL_NAME, 100),
    "the journal empty": lambda out: (out / STATE_FOLDER / JOURNAL_NAME).write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_state_that_is_not_what_was_synced_is_refused_and_left(stopped, corpus, undisturbed, damage):
    DAMAGES[damage](stopped)
    before = names(stopped)
    for _ in range(2):
        with pytest.raises(EncodingStateBroken):
            go_on(corpus, stopped)
    assert {"manifest.json", "documents.bin"} < names(stopped) <= before
    go_on(corpus, stopped, force=True)
    assert contents(stopped) == contents(undisturbed[0])


def test_two_encoders_do_not_share_a_folder(stopped, corpus):
    before = contents(stopped)
    with only_encoder(stopped), pytest.raises(EncodingRuns):
        go_on(corpus, stopped, force=True)
    assert contents(stopped) == before
    assert go_on(corpus, stopped) > 0


def test_an_interruption_keeps_what_was_synced(tmp_path, corpus, undisturbed, monkeypatch):
    monkeypatch.setattr(encode, "_BATCH_DOCUMENTS", 7)
    monkeypatch.setattr(encode, "_JOURNAL_EVERY_S", 0.0)

    def interrupt(done, total, tokens):
        if tokens > 9000:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        go_on(corpus, out, on_progress=interrupt)
    with pytest.raises(DatasetUnfinished):
        open_dataset(out)
    assert go_on(corpus, out) > 9000
    assert contents(out) == contents(undisturbed[0])


def test_counts_go_on_too(stopped, corpus, tmp_path):
    found = encode_corpus(corpus, ByteTokenizer(), stopped, options=OPTIONS)
    expected = encode_corpus(corpus, ByteTokenizer(), tmp_path / "new", options=OPTIONS)
    assert found.counts == expected.counts
    assert (found.num_round_trips, found.num_unknown) == (expected.num_round_trips, expected.num_unknown)
    assert found.num_tokens_before > 0
