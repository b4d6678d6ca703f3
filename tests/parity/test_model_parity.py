"""Real checkpoints against transformers: the loss, the continuation, and the import read a second way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from apr.aprfile.metadata import model_tensors, read_facts
from apr.aprfile.reader import open_apr
from apr.evals.generate import generate
from apr.model.adapters import loss_sum, next_logits
from apr.model.decoder import Decoder
from apr.model.load import load_decoder
from apr.stepzero.oracle import build_transformers_model
from apr.tokenizer.engine import TextTokenizer
from apr.train.inputs import tokenizer_of
from apr.workflows.demo import standard_library_sources
from conftest import imported

NUM_TOKENS, LENGTH = 2048, 512
TOLERANCE = 1e-4  # nats per token, fp32
PROMPTS = (
    "def fibonacci(n):\n",
    "import json\n\n\ndef load(path):\n",
    "The capital of France is",
    "class Stack:\n    def push(self, item):\n",
    "In the year 1912, the ship",
)

CHECKPOINTS = [
    pytest.param("smollm2", marks=pytest.mark.smollm),
    pytest.param("qwen", marks=pytest.mark.live),
]


class Pair:
    """Our decoder and transformers' class, filled from the same .apr file."""

    def __init__(self, path: Path) -> None:
        with open_apr(path) as file:
            loaded = load_decoder(file)
            self.decoder: Decoder = loaded.decoder
            definition = tokenizer_of(read_facts(file))
            assert definition is not None
            self.tokenizer = TextTokenizer(definition)
            tensors = {name: file.as_f32(name) for name in model_tensors(file)}
            self.peer = build_transformers_model(loaded.facts.config, tensors)
            # The class brings an end token of its own, and the continuations are to be 64 tokens long.
            self.peer.generation_config = transformers.GenerationConfig(eos_token_id=None, pad_token_id=0)
            self.peer.config.eos_token_id = None

    def python_ids(self) -> torch.Tensor:
        """Tokens of Python source, [windows, LENGTH + 1]."""
        ids: list[int] = []
        for path in standard_library_sources():
            ids += self.tokenizer.encode(path.read_text(encoding="utf-8"))
            if len(ids) > NUM_TOKENS:
                break
        return torch.tensor(ids[: NUM_TOKENS + 1]).unfold(0, LENGTH + 1, LENGTH)


@pytest.fixture(scope="module", params=CHECKPOINTS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.getfixturevalue(f"{request.param}_apr"))


def our_loss(decoder: Decoder, windows: torch.Tensor) -> float:
    score = loss_sum(decoder, torch.float32)
    return score(windows[:, :-1], windows[:, 1:]) / windows[:, 1:].numel()


@torch.no_grad()
def their_loss(peer: torch.nn.Module, windows: torch.Tensor) -> float:
    total = 0.0
    for window in windows:
        logits = peer(window[None, :-1], use_cache=False).logits[0].double()
        total += float(torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum"))
    return total / windows[:, 1:].numel()


def test_loss_equals_transformers_on_the_same_tensors(pair: Pair, record_property) -> None:
    windows = pair.python_ids()
    assert windows[:, 1:].numel() >= NUM_TOKENS
    ours, theirs = our_loss(pair.decoder, windows), their_loss(pair.peer, windows)
    print(f"\nloss on {windows[:, 1:].numel()} tokens: ours {ours:.7f}, transformers {theirs:.7f}")
    record_property("difference", abs(ours - theirs))
    assert abs(ours - theirs) <= TOLERANCE


def test_greedy_continuations_are_token_identical(pair: Pair) -> None:
    for prompt in PROMPTS:
        ids = pair.tokenizer.encode(prompt)
        ours = generate(
            next_logits(pair.decoder, capacity=len(ids) + 64, dtype=torch.float32), ids, max_new_tokens=64
        )
        theirs = pair.peer.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            max_new_tokens=64,
            do_sample=False,
        )[0, len(ids) :].tolist()
        assert len(ours) == len(theirs) == 64
        assert ours == theirs, prompt


@pytest.mark.parametrize(
    ("checkpoint", "options"),
    [
        pytest.param("smollm2", (), marks=pytest.mark.smollm),
        # transformers reads this file as untied, so it is imported that way for this comparison.
        pytest.param("qwen", ("--tie", "no", "--oracle", "none"), marks=pytest.mark.live),
    ],
)
def test_loss_equals_transformers_own_reading_of_the_gguf(
    checkpoint: str,
    options: tuple[str, ...],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
) -> None:
    gguf: Path = request.getfixturevalue(f"{checkpoint}_gguf")
    if options:
        path = imported(gguf, tmp_path_factory, worker_id, *options)
    else:
        path = request.getfixturevalue(f"{checkpoint}_apr")
    pair = Pair(path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    windows = pair.python_ids()
    ours_loss, their_own = our_loss(pair.decoder, windows), their_loss(theirs, windows)
    print(f"\nGGUF read twice: ours {ours_loss:.7f}, transformers' own loader {their_own:.7f}")
    assert abs(ours_loss - their_own) <= TOLERANCE
