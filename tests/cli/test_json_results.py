"""What machines read: the keys of every result, and of every error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apr.arch.errors import PresetUnknown
from apr.cli import eval_command, inspect_commands
from apr.cli.main import entry
from apr.cli.output import emit
from apr.train.errors import LossDiverged
from command import run_apr
from tiny import CONFIG, QUICK, make_corpus, make_hf_folder

pytestmark = pytest.mark.usefixtures("one_thread")
Call = Callable[..., dict[str, Any]]


def strict(text: str) -> dict[str, Any]:
    """Parse one JSON object on one line, as a parser does that knows no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert text.count("\n") == 1
    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process; returns its JSON result."""

    def run(*arguments: object, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        found = entry([*map(str, arguments), "--format", "json"])
        captured = capsys.readouterr()
        assert found == code, captured.err
        return strict(captured.out)

    return run


def test_inspect(call: Call, tiny_apr: Path) -> None:
    found = call("inspect", tiny_apr)
    assert {
        *("format", "architecture", "config", "tensor_count", "parameter_count", "tied", "reference"),
        *(
            "checksums",
            "dialect",
            "tokenizer",
            "sources",
            "trust",
            "findings",
            "accepted",
            "producer",
            "lineage",
            "tie",
            "size_bytes",
            "file_digest",
        ),
    } == set(found)
    assert (found["format"], found["architecture"], found["tied"]) == ("APR v2", "llama", True)
    assert found["config"] == CONFIG.to_dict()
    assert (found["tensor_count"], found["parameter_count"]) == (20, 143_680)
    assert set(found["reference"]) == {"grade", "oracle", "loss", "num_tokens"}
    assert found["checksums"] == {"header": "ok", "footer": "ok", "digests": "ok"}


def test_tensors(call: Call, tiny_apr: Path) -> None:
    found = call("tensors", tiny_apr)
    assert set(found) == {"file", "tensor_count", "total_size_bytes", "tensors"}
    assert found["total_size_bytes"] == 4 * 143_680
    assert found["tensor_count"] == len(found["tensors"]) == 21  # the tied head is listed as what it is
    assert set(found["tensors"][0]) == {"name", "dtype", "shape", "size_bytes", "alias_of", "sha256"}
    head = next(row for row in found["tensors"] if row["name"] == "lm_head.weight")
    assert head["alias_of"] == "model.embed_tokens.weight"
    assert call("tensors", tiny_apr, "--filter", "layers.1.mlp")["tensor_count"] == 3


def test_pretrain(call: Call, tiny_apr: Path, tiny_shards: Path, tmp_path: Path) -> None:
    options = ("--init", tiny_apr, "--dataset", tiny_shards, *QUICK)
    found = call("pretrain", *options, "--run-dir", tmp_path / "run")
    assert {
        *(
            "format",
            "outcome",
            "steps",
            "tokens",
            "certificate",
            "final_val_loss",
            "tokens_per_sec",
            "checkpoints",
            "removed",
            "loggers",
            "spikes",
        ),
        "error",
    } == set(found)
    assert (found["outcome"], found["steps"], len(found["checkpoints"])) == ("BUDGET_DONE", 4, 2)
    certificate = found["certificate"]
    assert set(certificate) == {"grade", "verdict", "gates", "step0", "digest"}
    assert {"id", "claim", "verdict", "figure", "limit", "seconds"} <= set(certificate["gates"][0])
    assert set(certificate["step0"]) == {"val_loss", "random_init_loss", "reference_loss", "reference_delta"}
    assert found == json.loads((tmp_path / "run" / "record.json").read_text())

    plan, dry = call("plan", *options), call("pretrain", *options, "--dry-run")
    assert set(plan) == {
        *(
            "plan",
            "inputs",
            "num_parameters",
            "num_trainable",
            "available_windows",
            "num_tokens",
            "corpus_epochs",
            "warnings",
        ),
        *("memory", "memory_bytes", "disk"),
        *("seconds_per_step", "tokens_per_sec", "seconds_per_validation", "seconds"),
    }
    assert set(dry) == set(plan)
    assert dry["plan"] == plan["plan"]


def test_run_and_eval(call: Call, tiny_apr: Path, tiny_shards: Path, tmp_path: Path) -> None:
    found = call("run", tiny_apr, "the river", "-n", 5)
    assert set(found) == {"text", "token_ids"}
    assert len(found["token_ids"]) <= 5
    (tmp_path / "book.txt").write_text("the river holds the stone\n")
    for source in (("--text", tmp_path / "book.txt"), ("--dataset", tiny_shards, "--max-tokens", 100)):
        found = call("eval", tiny_apr, *source)
        assert {"loss", "perplexity", "bits_per_byte", "num_tokens"} <= set(found)
        assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
        bits = found["loss"] * found["num_tokens"] / math.log(2) / found["num_bytes"]
        assert found["bits_per_byte"] == pytest.approx(bits)


def test_import_and_tokenize(call: Call, tmp_path: Path) -> None:
    folder = make_hf_folder(tmp_path / "hf")
    found = call("import", folder, "-o", tmp_path / "m.apr")
    assert {"path", "architecture", "parameter_count", "tensor_count", "tied", "tie", "reference"} <= set(
        found
    )
    assert found["reference"]["grade"] == "A"
    found = call("tokenize", "import-hf", folder, "-o", tmp_path / "tokenizer")
    assert {"path", "vocab_size", "sha256", "end_of_text_id", "end_of_text_reason"} <= set(found)
    corpus = make_corpus(tmp_path / "text")
    found = call(
        "tokenize", "encode-corpus", "--corpus", corpus, "--tokenizer", tmp_path / "m.apr", "-o", tmp_path / "s"
    )  # fmt: skip
    assert {"train", "validation", "round_trips", "skipped", "empty", "tokens_per_sec"} <= set(found)


def test_explain(call: Call) -> None:
    row = call("explain", "apr306")
    assert row == {
        "id": "APR306",
        "name": "PresetUnknown",
        "summary": "No preset has that name, and no such file exists.",
        "text": PresetUnknown.text,
        "help": PresetUnknown.help,
        "exit_code": 2,
    }
    listed = [item["id"] for item in call("explain")["errors"]]
    assert {"APR001", "APR101", "APR301", "APR321", "APR502", "APR611"} <= set(listed)
    assert listed == sorted(set(listed))


@pytest.mark.parametrize(
    ("arguments", "error_id", "code"),
    [
        (("inspect", "nowhere.apr"), "APR101", 2),
        (("inspect",), "APR005", 2),
        (("nonsense",), "APR005", 2),
        (("run", "m.apr"), "APR005", 2),
        (("explain", "APR000"), "APR006", 2),
    ],
)
def test_an_error_is_an_object_too(call: Call, arguments: tuple[str, ...], error_id: str, code: int) -> None:
    error = call(*arguments, code=code)["error"]
    assert set(error) == {"id", "message", "help", "facts"}
    assert error["id"] == error_id


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 2, "APR004"),
        (MemoryError(), 2, "APR107"),
        (OSError(28, "No space left on device"), 2, "APR106"),
        (LossDiverged(epoch=1, value=math.nan, limit=8.0), 1, "APR612"),
        (ZeroDivisionError("x"), 3, "this is a bug (ZeroDivisionError: x)"),
    ],
)
def test_whatever_happens_is_one_sentence_and_a_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    said: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(inspect_commands, "inspect_file", fail)
    monkeypatch.delenv("APR_TRACEBACK", raising=False)
    assert entry(["inspect", "x", "--format=json"]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.strip().count("\n") == 0
    if code != 3:
        assert strict(captured.out)["error"]["id"] == said


def test_a_figure_without_a_word_in_json_is_spelled(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        eval_command, "evaluate_model", lambda *_, **__: {"loss": 800.0, "perplexity": math.inf}
    )
    assert call("eval", "m.apr")["perplexity"] == "inf"
    emit({"x": [math.nan]}, "json", str)
    assert strict(capsys.readouterr().out) == {"x": ["nan"]}


def test_a_process_of_its_own_says_the_same(tiny_apr: Path, tmp_path: Path) -> None:
    done = run_apr("run", tiny_apr, "the river", "-n", 4, "--format", "json")
    assert (done.code, set(done.json)) == (0, {"text", "token_ids"})
    refused = run_apr("inspect", tmp_path, "--format", "json")
    assert (refused.code, refused.error_id) == (2, "APR101")
    assert refused.stderr.startswith("apr: APR101: ")
