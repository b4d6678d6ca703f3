"""What FALSIFY-APR-PRETRAIN-ARCH-005, 006, 009 and 010 do; each raises AssertionError when its claim is false."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apr.convert.errors import TokenizerTooLarge
from apr.tokenizer.definition import TokenizerDefinition, make_definition, save_definition
from apr.tokenizer.engine import TextTokenizer
from apr.tokenizer.errors import AddedTokenMoved
from apr.train.errors import TokenizerMismatch, VocabularyMismatch
from contracts.scene import Run, Scene, call, require_refusal, require_success
from tiny import QWEN_LIKE, make_model, make_shards, make_tokenizer

_BASE_ENTRIES = 300  # before the added tokens
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def qwen_like_tokenizer() -> TokenizerDefinition:
    """A tokenizer built as Qwen's is: NFC, its split, byte-level BPE, and added tokens above the vocabulary."""
    document = json.loads(make_tokenizer(_BASE_ENTRIES).json_text)
    split = {"type": "Split", "pattern": {"Regex": _QWEN_SPLIT}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    document["normalizer"] = {"type": "NFC"}
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, level]}
    document["model"]["vocab"]["<base>"] = document["model"]["vocab"].pop("<|endoftext|>")
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    document["added_tokens"] = [
        {"id": _BASE_ENTRIES + at, "content": name, **flags} for at, name in enumerate(names)
    ]
    return define(document, eos_token_id=_BASE_ENTRIES)


def define(document: Mapping[str, Any], eos_token_id: int = 0) -> TokenizerDefinition:
    return make_definition(
        json.dumps(document), bos_token_id=None, eos_token_id=eos_token_id, source="a test"
    )


def with_far_id(definition: TokenizerDefinition, far_id: int) -> TokenizerDefinition:
    """One entry more, whose id leaves a hole before it: more ids than entries."""
    document = json.loads(definition.json_text)
    document["model"]["vocab"]["<|far|>"] = far_id
    document["added_tokens"].append({**document["added_tokens"][0], "id": far_id, "content": "<|far|>"})
    return define(document)


def with_undeclared_far_id(definition: TokenizerDefinition, far_id: int) -> TokenizerDefinition:
    """An added token that no entry backs: engines give it the next free id and not the declared one."""
    document = json.loads(definition.json_text)
    document["added_tokens"].append({**document["added_tokens"][0], "id": far_id, "content": "<|far|>"})
    return define(document)


@dataclass(frozen=True)
class Vocabularies:
    """Tokenizers with shards of each."""

    qwen: TokenizerDefinition
    qwen_shards: Path
    other: TokenizerDefinition  # of the scene's tokenizer's size, with other merges
    other_shards: Path
    greater: TokenizerDefinition
    greater_shards: Path
    far: TokenizerDefinition  # 321 entries, the last with id 340
    far_shards: Path
    qwen_model: Path  # 320 rows under 303 entries


def make_vocabularies(scene: Scene) -> Vocabularies:
    qwen, other, greater = qwen_like_tokenizer(), other_tokenizer(scene), make_tokenizer(336)
    far = with_far_id(scene.tokenizer, 340)
    shards = [make_shards(scene.new("shards"), each) for each in (qwen, other, greater, far)]
    model = make_model(scene.new("qwen.apr"), QWEN_LIKE, tokenizer=qwen)
    return Vocabularies(qwen, shards[0], other, shards[1], greater, shards[2], far, shards[3], model)


def other_tokenizer(scene: Scene) -> TokenizerDefinition:
    """As many entries as the scene's tokenizer: two of them have exchanged their ids."""
    document = json.loads(scene.tokenizer.json_text)
    vocab = document["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    return define(document)


def saved(scene: Scene, definition: TokenizerDefinition) -> Path:
    folder = scene.new("tokenizer")
    save_definition(definition, folder)
    return folder


def require_accepted(run: Run, entries: int, rows: int) -> None:
    require_success(run)
    gate = run.gate("tokens.tokenizer")
    assert gate["verdict"] == "yes", f"the tokenizer's gate says {gate['verdict']}"
    facts = (gate["facts"]["tokenizer_size"], gate["facts"]["vocab_size"])
    assert facts == (entries, rows), f"the gate compared {facts}, not {(entries, rows)}"
    ids = run.gate("tokens.ids")
    assert (ids["verdict"], ids["limit"]) == ("yes", rows - 1), f"the gate of the ids says {ids}"


def qwen_tokenizer_passes(scene: Scene, sets: Vocabularies) -> None:
    """ARCH-005: a tokenizer like Qwen's, added tokens above its vocabulary, passes with a Qwen target."""
    entries = TextTokenizer(sets.qwen).vocab_size
    assert (entries, TextTokenizer(sets.qwen).max_id) == (303, 302)
    for options in ((), ("--tokenizer", saved(scene, sets.qwen))):
        run = scene.pretrain("--init", sets.qwen_model, *options, dataset=sets.qwen_shards)
        require_accepted(run, 303, 320)


def other_vocabulary_is_refused(scene: Scene, sets: Vocabularies) -> None:
    """ARCH-006: shards or a tokenizer of another vocabulary are refused, of the same size too."""
    short = (sets.qwen.sha256[:12], scene.tokenizer.sha256[:12])
    case = {"id": TokenizerMismatch.id, "says": short, "steps": 1}
    require_refusal(scene, "--init", sets.qwen_model, dataset=scene.shards, **case)
    require_refusal(scene, "--init", scene.model, dataset=sets.qwen_shards, **case)
    # As many entries, two of which have exchanged their ids.
    case["says"] = (sets.other.sha256[:12],)
    require_refusal(scene, "--init", scene.model, dataset=sets.other_shards, **case)
    tokenizer = saved(scene, sets.other)
    require_refusal(scene, "--init", scene.model, "--tokenizer", tokenizer, **case)
    unequal_from_scratch_is_refused(scene, sets)


def unequal_from_scratch_is_refused(scene: Scene, sets: Vocabularies) -> None:
    """Without a checkpoint the sizes must be equal: no embedding rows without a token, none too few."""
    wider = scene.write_arch(replace(QWEN_LIKE, vocab_size=321))
    narrower = scene.write_arch(replace(QWEN_LIKE, vocab_size=319))
    for arch, limit in ((wider, "321"), (narrower, "319")):
        for options in ((), ("--tokenizer", scene.model)):
            says = ("320", limit)
            require_refusal(scene, "--arch", arch, *options, id=VocabularyMismatch.id, says=says, steps=1)
    require_success(scene.pretrain("--arch", scene.arch, "--tokenizer", scene.model))


def smaller_tokenizer_passes(scene: Scene, sets: Vocabularies) -> None:
    """ARCH-009: with a checkpoint, a tokenizer of fewer entries than the model has rows passes, to the last row."""
    for rows in (320, 321, 384):
        config = replace(QWEN_LIKE, vocab_size=rows)
        path = make_model(scene.new("rows.apr"), config, oracle="none", tokenizer=scene.tokenizer)
        require_file_accepted(scene, path, 320, rows)


def require_file_accepted(scene: Scene, path: Path, entries: int, rows: int) -> None:
    """Its vocabulary is accepted; random weights without a reference may fail a later gate."""
    run = scene.pretrain("--init", path)
    assert (run.run_dir / "certificate.json").exists(), f"refused before step zero: {run.stderr[-300:]}"
    gates = {gate["id"]: gate for gate in run.read("certificate.json")["gates"]}
    for name in ("tokens.tokenizer", "tokens.ids"):
        assert gates[name]["verdict"] == "yes", f"{name} says {gates[name]['verdict']}"
    facts = gates["tokens.tokenizer"]["facts"]
    assert (facts["tokenizer_size"], facts["vocab_size"]) == (entries, rows), f"compared {facts}"


def greater_tokenizer_is_refused(scene: Scene, sets: Vocabularies) -> None:
    """ARCH-010: more entries than rows are refused; so is one id beyond them, however few the entries."""
    case = {"id": VocabularyMismatch.id, "steps": 1}
    greater, says = saved(scene, sets.greater), ("336", "320 at most")
    options = ("--init", scene.model, "--tokenizer", greater)
    require_refusal(scene, *options, dataset=sets.greater_shards, says=says, **case)
    far_ids_are_refused(scene, sets)
    import_of_greater_is_refused(scene, sets)


def far_ids_are_refused(scene: Scene, sets: Vocabularies) -> None:
    """321 entries, one of which has id 340, in a model of 330 rows: the count fits, the id does not."""
    engine = TextTokenizer(sets.far)
    assert (engine.vocab_size, engine.max_id) == (321, 340)
    path = make_model(scene.new("330.apr"), replace(QWEN_LIKE, vocab_size=330), tokenizer=scene.tokenizer)
    options = ("--init", path, "--tokenizer", saved(scene, sets.far))
    says = ("341", "330 at most")
    require_refusal(scene, *options, dataset=sets.far_shards, id=VocabularyMismatch.id, says=says, steps=1)
    moved = saved(scene, with_undeclared_far_id(scene.tokenizer, 340))
    options = ("--init", path, "--tokenizer", moved)
    require_refusal(scene, *options, id=AddedTokenMoved.id, says=("340", "320"), steps=1)


def import_of_greater_is_refused(scene: Scene, sets: Vocabularies) -> None:
    """A checkpoint is not even imported with a tokenizer that has ids beyond its rows."""
    for definition in (sets.greater, sets.far):
        folder, out = hugging_face_folder(scene), scene.new("out.apr")
        tokenizer = saved(scene, definition)
        outcome = call(
            "import", folder, "-o", out, "--tokenizer", tokenizer, "--oracle", "none", "--format", "json"
        )
        assert outcome.code == 1, f"import: exit code {outcome.code}: {outcome.stderr[-300:]}"
        assert outcome.error_id == TokenizerTooLarge.id, f"import: {outcome.stderr[-300:]}"
        assert not out.exists(), "something was imported"


def hugging_face_folder(scene: Scene) -> Path:
    """The scene's model as transformers saves it."""
    import transformers

    folder = scene.new("llama")
    config = transformers.LlamaConfig(
        vocab_size=320, hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder
