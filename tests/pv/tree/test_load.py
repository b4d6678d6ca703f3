"""One YAML document into a tree with places; what no contract needs is refused, with its place."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv.errors import PathMissing, PathUnreadable, YamlWrong
from pv.tree.load import MAX_BYTES, MAX_DEPTH, MAX_NODES, load_text, load_tree, read_bytes
from pv.tree.nodes import Block, Items, Place, Scalar, walk
from pv.tree.scalars import is_null, number, plain_value, truth


def load(text: str | bytes) -> Block | Items | Scalar:
    data = text.encode() if isinstance(text, str) else text
    return load_tree(load_text(data, "x.yaml"), "x.yaml")


def value(text: str) -> object:
    return plain_value(load(text))


def test_every_value_knows_where_it_stands() -> None:
    root = load('a: one\nb:\n  - "two"\n  - {c: drei}\n')
    assert isinstance(root, Block)
    assert root.place == Place(1, 1, 5, 1)
    assert root.get("a").place == Place(1, 4, 1, 7)
    items = root.get("b")
    assert isinstance(items, Items)
    assert items.items[0].place == Place(3, 5, 3, 10)
    assert items.items[1].entries[0].key.place == Place(4, 6, 4, 7)
    assert items.items[1].get("c").place == Place(4, 9, 4, 13)


def test_columns_count_characters_and_not_bytes() -> None:
    assert load("\u00e4: \u00f6 # \u00fc\n\u00df\U0001d11e: x\n").entries[1].value.place == Place(2, 5, 2, 6)


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "y", "n", "2026-02-18", "1:30", "010x", "1_000", "=", "<<"]
)
def test_words_of_yaml_1_1_are_text(word: str) -> None:
    assert value(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("text", "meant"),
    [("010", 10), ("0o17", 15), ("0x1F", 31), ("+3", 3), ("-0", 0), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0),
     ("-.inf", float("-inf")), ("true", True), ("False", False), ("~", None), ("", None), ("Null", None),
     ("'true'", "true"), ('"1"', "1"), ("!!str 1", "1"), ("! 1", "1"), ("nUll", "nUll"), ("1e", "1e"), ("0b1", "0b1")],
)  # fmt: skip
def test_plain_scalars_are_those_of_the_core_schema(text: str, meant: object) -> None:
    read = value(f"a: {text}")["a"]
    assert read == meant
    assert type(read) is type(meant)


def test_a_number_without_end_is_text_and_costs_nothing() -> None:
    assert number(load("9" * 100_000)) is None
    assert number(load("9" * 399)) is None
    assert number(load("0x" + "f" * 390)) is None


def test_true_is_true_in_lower_case_only() -> None:
    assert [truth(load(t)) for t in ("true", "false", "True", "yes", "'true'")] == [
        True,
        False,
        None,
        None,
        None,
    ]
    assert not is_null(load("''"))


def test_a_key_that_stands_twice_is_there_twice() -> None:
    root = load("a: 1\nb: 2\na: 3\n")
    assert [(key.text, key.place.line) for key in root.repeated()] == [("a", 3)]
    assert root.get("a").text == "3"


def test_an_alias_is_what_it_names_and_the_merge_key_is_a_key() -> None:
    assert value("a: &x {b: 1}\nc: *x\nd: {<<: *x}\n") == {
        "a": {"b": 1},
        "c": {"b": 1},
        "d": {"<<": {"b": 1}},
    }


@pytest.mark.parametrize("text", ["{p: t/a.py::t_b}", "{p: http://x.y/z}", "[t/a.py::b, c:d]"])
def test_a_colon_inside_a_word_needs_no_quotes(text: str) -> None:
    assert isinstance(load(text), Block | Items)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
DEEP = "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, 1),
        ("# nothing\n", 1, 1),
        ("a: 1\n---\nb: 2\n", 2, 1),
        ("a: 1\n...\n---\nb: 2\n", 3, 1),
        ("a: b: c\n", 1, 5),
        ("a: [1\n", 2, 1),
        ("a: 1\n c: 2\n", 2, 3),
        ("a: *b\n", 1, 4),
        ("a: &a [*a]\n", 1, 8),
        ("? [a]\n: b\n", 1, 3),
        ("a: !x 1\n", 1, 4),
        ("a: !x {}\n", 1, 4),
        ('a: "\\q"\n', 1, 5),
        ("a: \x01\n", 1, 4),
        ("\u00e4: \x01\n", 1, 4),
        (b"a: 1\nb: \xff\n", 2, 4),
        (b"\xff\xfea\x00", 1, 1),
        (LAUGHS, 6, 15),
        (DEEP, 1, MAX_DEPTH + 1),
        ("[" * 100_000, 1, MAX_DEPTH + 1),
        ("a: " + "x" * MAX_BYTES, 1, 1),
        ("\ta: b\n", 1, 1),
    ],
)  # fmt: skip
def test_what_is_no_contract_is_refused_with_its_place(text: str | bytes, line: int, column: int) -> None:
    with pytest.raises(YamlWrong) as refused:
        load(text)
    assert (refused.value.line, refused.value.column) == (line, column)
    assert refused.value.exit_code == 1
    assert "\n" not in str(refused.value)


def test_the_limits_are_reached_and_not_passed() -> None:
    assert sum(1 for _ in walk(load("[" * MAX_DEPTH + "]" * MAX_DEPTH))) == MAX_DEPTH
    assert load("[" + "x," * (MAX_NODES - 1) + "]").size == MAX_NODES
    with pytest.raises(YamlWrong):
        load("[" + "x," * MAX_NODES + "]")


@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_a_byte_order_mark_is_no_character(mark: str) -> None:
    assert load(f"{mark}a: 1\n").entries[0].key.place == Place(1, 1, 1, 2)


def test_a_path_that_cannot_be_read_is_an_error(tmp_path) -> None:
    with pytest.raises(PathMissing):
        read_bytes(tmp_path / "absent.yaml")
    with pytest.raises(PathUnreadable):
        read_bytes(tmp_path)


@given(st.text(max_size=200))
def test_any_text_is_a_tree_or_refused(text: str) -> None:
    try:
        root = load_tree(text, "x.yaml")
    except YamlWrong:
        return
    plain_value(root)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_tree_or_refused(data: bytes) -> None:
    with suppress(YamlWrong):
        load(data)
