"""Bytes to text: what one file or one line of a corpus says, or what is wrong with it."""

from __future__ import annotations

import json
from typing import Any, Literal

from apr.base.errors import AprError
from apr.base.files import json_kind
from apr.data.errors import RecordFieldMissing, RecordFieldNotText, RecordNotJson, TextNotUtf8

OnBad = Literal["fail", "skip"]
BAD_KINDS = ("not_utf8", "not_json", "field_missing", "field_not_text", "format_unread")
Bad = tuple[str, AprError]  # the kind under which it is counted, and the error that it is otherwise


def text_of(content: bytes, place: str, offset: int) -> str | Bad:
    """Decode UTF-8.

    Args:
        content: the bytes.
        place: the file, or file:line.
        offset: of the first byte in the file, decompressed.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        where = offset + error.start
        return "not_utf8", TextNotUtf8(place=place, byte_offset=where, reason=error.reason)


def field_text(content: str, name: str, path: str, line: int) -> str | Bad:
    """The text in a field of a JSON object.

    Args:
        content: one line of JSONL.
        name: of the field.
        path: of the file, for messages.
        line: counted from 1, for messages.
    """
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return "not_json", RecordNotJson(path=path, line=line, reason=reason)
    if not isinstance(record, dict):
        return "not_json", RecordNotJson(path=path, line=line, reason=f"it holds {_kind(record)}")
    if name not in record:
        found = ", ".join(sorted(record)) or "nothing"
        return "field_missing", RecordFieldMissing(path=path, line=line, field=name, found=found)
    text = record[name]
    if not isinstance(text, str) or not _is_encodable(text):
        return "field_not_text", RecordFieldNotText(path=path, line=line, field=name, kind=_kind(text))
    return text


def _is_encodable(text: str) -> bool:
    # JSON can spell half of a surrogate pair, which is no character and has no UTF-8.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    return "half a surrogate pair" if isinstance(value, str) else json_kind(value)
