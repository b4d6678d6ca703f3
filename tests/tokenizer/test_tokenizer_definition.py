from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apr.base.errors import AprError, BadJson, FileMissing
from apr.tokenizer.definition import (
    TokenizerDefinition,
    load_definition,
    make_definition,
    save_definition,
    with_end_of_text,
)
from apr.tokenizer.errors import (
    AddedTokenMoved,
    EndOfTextAmbiguous,
    SpecialTokenBad,
    TokenizerChanged,
    TokenizerNotLoadable,
    TokenUnknown,
)

Json = Callable[..., str]
TEXT_END, OTHER_END, TURN_END = ("<|endoftext|>", True), ("<|end_of_text|>", True), ("<|im_end|>", True)


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("added", "eos", "named", "expected", "word"),
    [
        pytest.param(
            [TURN_END, TEXT_END], 4, None, 5, "<|endoftext|>", id="control token before a turn's end"
        ),
        pytest.param([TURN_END, OTHER_END], 4, None, 5, "<|end_of_text|>", id="the other spelling"),
        pytest.param([TEXT_END, OTHER_END], 5, None, 5, "<|end_of_text|>", id="two, one is the eos"),
        pytest.param([TEXT_END, TURN_END], 5, "<|im_end|>", 5, "caller", id="named wins"),
        pytest.param([TEXT_END, OTHER_END], None, "<|endoftext|>", 4, "caller", id="named settles two"),
        pytest.param([TEXT_END], None, "b", 1, "caller", id="any token may be named"),
        pytest.param([("</s>", True)], 4, None, 4, "eos", id="declared eos"),
        pytest.param([("<|endoftext|>", False), TURN_END], 5, None, 5, "eos", id="not a control token"),
        pytest.param([("<|endoftext|> ", True)], None, None, None, "no ", id="exact spelling only"),
        pytest.param([], None, None, None, "no ", id="nothing"),
    ],
)
def test_the_rule_for_the_document_separator(
    tiny_json: Json,
    added: list[tuple[str, bool]],
    eos: int | None,
    named: str | None,
    expected: int,
    word: str,
) -> None:
    made = make_definition(
        tiny_json(*added), bos_token_id=None, eos_token_id=eos, end_of_text=named, source="test"
    )
    assert (made.end_of_text_id, made.eos_token_id) == (expected, eos)
    assert word in made.end_of_text_reason


@pytest.mark.parametrize("eos", [None, 6])
def test_two_candidates_are_refused(tiny_json: Json, eos: int | None) -> None:
    text = tiny_json(TEXT_END, OTHER_END, TURN_END)
    with pytest.raises(EndOfTextAmbiguous) as caught:
        make_definition(text, bos_token_id=None, eos_token_id=eos, source="test")
    assert caught.value.candidates == "<|end_of_text|> and <|endoftext|>"


def test_naming_another_separator_changes_nothing_else(tiny_json: Json) -> None:
    made = make_definition(tiny_json(TEXT_END, TURN_END), bos_token_id=4, eos_token_id=5, source="test")
    changed = with_end_of_text(made, "<|im_end|>")
    assert (changed.end_of_text_id, changed.bos_token_id, changed.eos_token_id) == (5, 4, 5)
    assert changed.sha256 == made.sha256
    with pytest.raises(TokenUnknown) as caught:
        with_end_of_text(made, "<|imend|>")
    assert caught.value.facts["nearest"].split(", ")[0] == "<|im_end|>"


@pytest.mark.parametrize(
    ("files", "bos", "eos"),
    [
        ({}, None, None),
        ({"tokenizer_config": {"eos_token": "<|im_end|>", "bos_token": None}}, None, 5),
        ({"tokenizer_config": {"eos_token": {"content": "<|im_end|>", "special": True}}}, None, 5),
        ({"special_tokens_map": {"bos_token": {"content": "a"}}}, 0, None),
        ({"tokenizer_config": {"eos_token": "b"}, "special_tokens_map": {"eos_token": "c"}}, None, 1),
        ({"generation_config": {"bos_token_id": 4, "eos_token_id": [5]}}, 4, 5),
        ({"generation_config": {"eos_token_id": [5, 4]}}, None, None),
        ({"generation_config": {"eos_token_id": 4}, "special_tokens_map": {"eos_token": "c"}}, None, 2),
        ({"tokenizer_config": {"added_tokens_decoder": {"5": {"content": "<|im_end|>"}}}}, None, None),
    ],
)
def test_the_published_files_of_a_folder(
    tmp_path: Path, tiny_json: Json, files: dict[str, Any], bos: int | None, eos: int | None
) -> None:
    folder = write(tmp_path, tokenizer=tiny_json(TEXT_END, TURN_END), **files)
    loaded = load_definition(folder)
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.end_of_text_id) == (bos, eos, 4)


def test_a_file_alone_declares_nothing(tmp_path: Path, tiny_json: Json) -> None:
    folder = write(tmp_path, tokenizer=tiny_json(("</s>", True)), tokenizer_config={"eos_token": "</s>"})
    alone = load_definition(folder / "tokenizer.json")
    assert (alone.eos_token_id, alone.end_of_text_id) == (None, None)
    assert load_definition(folder).end_of_text_id == 4
    assert load_definition(folder / "tokenizer.json", end_of_text="</s>").end_of_text_id == 4


def test_saved_and_loaded_is_the_same_to_the_byte(tmp_path: Path, tiny_json: Json) -> None:
    # Line ends and spacing of the file are part of its digest, so nothing may rewrite them.
    source = tmp_path / "tokenizer.json"
    source.write_bytes(tiny_json(TEXT_END, ("\u00e9\u2581", False)).replace(", ", ",\r\n ").encode() + b"\n")
    loaded = load_definition(source)
    save_definition(loaded, tmp_path / "out" / "deep")
    written = tmp_path / "out" / "deep" / "tokenizer.json"
    assert written.read_bytes() == source.read_bytes()
    assert loaded.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert load_definition(written.parent) == loaded


def test_recorded_ids_come_before_the_published_ones(tmp_path: Path, tiny_json: Json) -> None:
    made = make_definition(
        tiny_json(TEXT_END, TURN_END), bos_token_id=None, eos_token_id=5, end_of_text="a", source="test"
    )
    save_definition(made, tmp_path)
    write(tmp_path, tokenizer_config={"eos_token": "b"})
    assert load_definition(tmp_path) == made
    assert load_definition(tmp_path, end_of_text="b").end_of_text_id == 1


def test_recorded_ids_of_another_tokenizer_are_refused(tmp_path: Path, tiny_json: Json) -> None:
    made = make_definition(tiny_json(TEXT_END), bos_token_id=None, eos_token_id=None, source="test")
    save_definition(made, tmp_path)
    write(tmp_path, tokenizer=tiny_json(TURN_END, TEXT_END))
    with pytest.raises(TokenizerChanged):
        load_definition(tmp_path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"eos_token_id": None}, None),
        ({"eos_token_id": "5"}, "eos_token_id"),
        ({"eos_token_id": True}, "eos_token_id"),
        ({"end_of_text_reason": None}, "end_of_text_reason"),
        ({"end_of_txt_id": 3}, "end_of_txt_id"),
        ({"sha256": ...}, "sha256"),
    ],
)
def test_special_ids_are_read_strictly(tiny_json: Json, change: dict[str, Any], field: str | None) -> None:
    made = make_definition(tiny_json(TEXT_END), bos_token_id=None, eos_token_id=None, source="test")
    values = {name: value for name, value in {**made.to_dict(), **change}.items() if value is not ...}
    if field is None:
        assert TokenizerDefinition.from_dict(values, made.json_text) == made
        return
    with pytest.raises(SpecialTokenBad) as caught:
        TokenizerDefinition.from_dict(values, made.json_text)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({}, FileMissing),
        ({"tokenizer": "{"}, TokenizerNotLoadable),
        ({"tokenizer": "[" * 100_000}, TokenizerNotLoadable),
        ({"tokenizer": "[]"}, TokenizerNotLoadable),
        ({"tokenizer": {"model": {}}}, TokenizerNotLoadable),
        ({"tokenizer": {"model": {"vocab": {}}, "added_tokens": {"id": 1}}}, TokenizerNotLoadable),
        ({"tokenizer": {"model": {"vocab": {}}, "added_tokens": [{"id": True}]}}, TokenizerNotLoadable),
        ({"tokenizer": None, "tokenizer_config": "{"}, BadJson),
        ({"tokenizer": None, "tokenizer_config": {"eos_token": "</s>"}}, TokenUnknown),
        ({"tokenizer": None, "tokenizer_config": {"eos_token": 5}}, SpecialTokenBad),
        ({"tokenizer": None, "generation_config": {"eos_token_id": 6}}, SpecialTokenBad),
        ({"tokenizer": None, "generation_config": {"eos_token_id": "a"}}, SpecialTokenBad),
        ({"tokenizer": None, "generation_config": {"eos_token_id": [[1]]}}, SpecialTokenBad),
        (
            {"tokenizer": None, "tokenizer_config": {"added_tokens_decoder": {"9": {"content": "<x>"}}}},
            AddedTokenMoved,
        ),
        ({"tokenizer": None, "tokenizer_config": {"added_tokens_decoder": {"x": {}}}}, SpecialTokenBad),
        ({"tokenizer": None, "tokenizer_config": {"added_tokens_decoder": [1]}}, SpecialTokenBad),
    ],
)
def test_bad_folders_are_refused(
    tmp_path: Path, tiny_json: Json, files: dict[str, Any], error: type[AprError]
) -> None:
    if "tokenizer" in files and files["tokenizer"] is None:
        files = {**files, "tokenizer": tiny_json(TEXT_END, TURN_END)}
    write(tmp_path, **files)
    with pytest.raises(error):
        load_definition(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(b'{"\xff": 1}')
    with pytest.raises(TokenizerNotLoadable):
        load_definition(tmp_path)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing) as caught:
        load_definition(tmp_path / "no" / "tokenizer.json")
    assert caught.value.path == str(tmp_path / "no" / "tokenizer.json")


def test_a_key_with_two_values_is_refused(tmp_path: Path, tiny_json: Json) -> None:
    text = tiny_json(TEXT_END)
    vocab = text.index('"vocab"')
    brace = text.index("{", vocab)
    key, value = json.dumps(next(iter(json.loads(text)["model"]["vocab"]))), 77
    doubled = f"{text[: brace + 1]}{key}: {value}, {text[brace + 1 :]}"
    with pytest.raises(TokenizerNotLoadable) as caught:
        make_definition(doubled, bos_token_id=None, eos_token_id=None, source="doubled")
    assert key.strip('"') in caught.value.reason
