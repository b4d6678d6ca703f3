"""Two small trained models, as transformers saves them: a llama with a tied head, a qwen2 with biases and without.

Trained, so that a wrong weight or a wrong rope base shows in the loss. The text is made up: lines that nearly repeat
the one before, so that what is predicted stands some tokens back, and the model has to attend by position.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

VOCAB_SIZE = 512
NUM_STEPS = 900
_BATCH, _TOKENS = 12, 96
_PEAK_RATE = 6e-3
# The residual stream of published models is small beside 1, so that the norm's epsilon counts. A model trained with
# epsilon / SMALL^2 and scaled by SMALL afterwards computes the same with epsilon.
_SMALL = 0.03
_EPS = 1e-5
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": _EPS / _SMALL**2,
    "bos_token_id": None,
    "eos_token_id": 0,
}
_LLAMA_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_WORDS = tuple(
    """
    river stone garden letter engine window winter market bridge lantern harbour meadow candle forest copper silver
    anchor basket circle desert effort father golden hammer island jacket kitten ladder mirror needle orange pencil
    rabbit saddle temple valley wagon yellow barrel cotton dragon feather goblet hollow insect jungle kettle linen
    marble nutmeg oyster pepper quartz ribbon shadow thunder velvet walnut zephyr bottle cellar dancer ember falcon
    """.split()  # noqa: SIM905  a list would take a page
)


def document(seed: int, num_lines: int = 26) -> str:
    """A document: a line of six words, and line after line the one before with one word changed.

    The new word follows from the old one and from its neighbour on the left: a sum modulo 4 of what they are in, which
    no linear map gives, so that the MLP has to work and its activation counts.
    """
    draw = random.Random(seed)
    line = draw.sample(range(len(_WORDS)), 6)
    lines = []
    for _ in range(num_lines):
        place = draw.randrange(1, 6)
        line[place] = (line[place] + 16 * (1 + line[place - 1] // 16)) % len(_WORDS)
        lines.append(" " + " ".join(_WORDS[word] for word in line) + "\n")
    return "".join(lines)


def held_out(count: int) -> list[str]:
    """Documents that no model here is trained on, of a length that it is trained on."""
    return [document(10_000_000 + number, _TOKENS // 8) for number in range(count)]


def make_models(folder: Path) -> dict[str, Path]:
    """Train both and save them as bf16 safetensors; returns the folders by name."""
    logging.disable_progress_bar()
    tokenizer = _tokenizer()
    made = {}
    for name, model in (("llama", _llama()), ("qwen2", _qwen2())):
        _widen(model)
        _train(model, tokenizer)
        _scale_down(model)
        made[name] = folder / name
        model.to(torch.bfloat16).save_pretrained(made[name])
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token=None, unk_token=None
        ).save_pretrained(made[name])
    return made


def _llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**_SIZES, rope_parameters=_LLAMA_ROPE, tie_word_embeddings=True))


def _qwen2() -> Qwen2ForCausalLM:
    torch.manual_seed(1)
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0}
    return Qwen2ForCausalLM(Qwen2Config(**_SIZES, rope_parameters=rope, tie_word_embeddings=False))


def _tokenizer() -> Tokenizer:
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator((document(number) for number in range(500)), trainer)
    return engine


def _train(model: Any, tokenizer: Tokenizer) -> None:
    ids = [token for number in range(2_500) for token in tokenizer.encode(document(number)).ids]
    stream = torch.tensor(ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    draw = torch.Generator().manual_seed(0)
    for step in range(NUM_STEPS):
        rate = min(1.0, (step + 1) / 50) * (1 - step / NUM_STEPS)
        optimizer.param_groups[0]["lr"] = _PEAK_RATE * rate
        starts = torch.randint(len(stream) - _TOKENS, (_BATCH,), generator=draw)
        batch = torch.stack([stream[start : start + _TOKENS] for start in starts])
        loss = model(batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            print(f"  {type(model).__name__} step {step + 1}/{NUM_STEPS}: loss {loss.item():.3f}", flush=True)


@torch.no_grad()
def _widen(model: Any) -> None:
    """Begin with biases and gates that count, as those of published models do; from 0.02 they stay near nothing."""
    for layer in model.model.layers:
        layer.mlp.gate_proj.weight *= 3
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            if projection.bias is not None:
                projection.bias.normal_(0, 0.5)


@torch.no_grad()
def _scale_down(model: Any) -> None:
    """Scale what writes into the residual stream, and epsilon with it."""
    body = model.model
    body.embed_tokens.weight *= _SMALL
    for layer in body.layers:
        layer.self_attn.o_proj.weight *= _SMALL
        layer.mlp.down_proj.weight *= _SMALL
    if model.config.tie_word_embeddings:  # the head was scaled with the embedding
        body.norm.weight /= _SMALL
    model.config.rms_norm_eps = _EPS
