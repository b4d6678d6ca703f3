"""What libraries said while a model was loaded: every message is discharged by a gate, or ends the run.

Other trainers lose weeks behind a line of a log: "some weights were newly initialized", "no checkpoint found". Here a
message that this table does not know is a refusal: somebody has to read it once and say which gate judges what it says.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from apr.stepzero.errors import LibraryWarned
from apr.stepzero.gate import GateResult, verdict_of

# (pattern, the gate that judges what it says; "" where it says nothing about weights, data or arithmetic)
KNOWN: tuple[tuple[str, str], ...] = (
    (r"lru_cache", ""),  # torch's own, when a compiled function is inspected
    (r"non-writable", "weights.memory"),  # a view of a read-only file; bits are compared
    (r"`torch_dtype` is deprecated", ""),
    # A name will change: nothing is computed otherwise today, unless the line goes on to say what it did about it.
    (
        r"^(?!.*(ignor|initiali[sz]|random|missing|unexpected|not used|mismatch|falling back)).*(is|are) deprecated",
        "",
    ),
    (r"`use_cache=True` is incompatible with gradient checkpointing", ""),  # a cache is for generating
    (r"does not have a deterministic implementation", "model.repeatable"),
    (r"CUDA initialization|No CUDA|can't initialize NVML", "model.placement"),
    (r"Ignoring clean_up_tokenization_spaces", "tokens.sample"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A warning or a log line of a library."""

    source: str  # "warning" or the logger's name
    text: str
    judged_by: str | None  # the gate that discharges it; "" when it is harmless; None when nobody has read it


@dataclass(kw_only=True)
class Captured:
    """The messages of a block, filled while it runs."""

    messages: list[Message] = field(default_factory=list)

    def add(self, source: str, text: str) -> None:
        """Enter a message, once."""
        line = " ".join(text.split())[:300]
        if all(line != message.text for message in self.messages):
            self.messages.append(Message(source=source, text=line, judged_by=classify(line)))


def classify(text: str) -> str | None:
    """The gate that judges what a message says; "" for a harmless one, None for one that nobody has read."""
    return next((gate for pattern, gate in KNOWN if re.search(pattern, text, re.IGNORECASE)), None)


class _Listener(logging.Handler):
    def __init__(self, captured: Captured) -> None:
        super().__init__(logging.WARNING)
        self._captured = captured

    def emit(self, record: logging.LogRecord) -> None:
        self._captured.add(record.name, record.getMessage())


@contextmanager
def capturing(
    loggers: tuple[str, ...] = ("", "torch", "transformers", "huggingface_hub"),
) -> Iterator[Captured]:
    """Collect every Python warning and every log line from WARNING up.

    Args:
        loggers: those to listen to, with every one that does not pass its lines on.
    """
    captured = Captured()
    listener = _Listener(captured)
    known = [known for known in logging.root.manager.loggerDict.values() if isinstance(known, logging.Logger)]
    withdrawn = [logger for logger in known if not logger.propagate]  # torch.distributed, among others
    listened = {logging.getLogger(name) for name in loggers}.union(withdrawn)
    for logger in listened:
        logger.addHandler(listener)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield captured
            finally:
                for item in caught:
                    captured.add("warning", f"{item.category.__name__}: {item.message}")
    finally:
        for logger in listened:
            logger.removeHandler(listener)


def require_discharged(captured: Captured) -> None:
    """Refuse to go on when a library said something that nobody has read.

    Raises:
        LibraryWarned: with the first such message.
    """
    for message in captured.messages:
        if message.judged_by is None:
            raise LibraryWarned(source=message.source, said=message.text)


def messages_gate(
    captured: Captured, gates: Sequence[GateResult], when: str = "while the model was loaded"
) -> GateResult:
    """Every message is known, and the gate that judges what it says has said yes.

    Args:
        captured: what was said.
        gates: those that were judged.
        when: in a cause.
    """
    held = {"", *(gate.id for gate in gates if gate.verdict == "yes")}
    refused = any(
        gate.verdict == "no" for gate in gates
    )  # then later gates were not reached, and that is said
    unread = [
        message
        for message in captured.messages
        if message.judged_by is None or not (refused or message.judged_by in held)
    ]
    cause = ""
    if unread:
        cause = f"{unread[0].source} said {when}: {unread[0].text}"
        if unread[0].judged_by is not None:
            cause += f" (which {unread[0].judged_by} was to judge, and could not)"
    return GateResult(
        id="log.messages",
        claim="what libraries warned of is judged by a gate",
        verdict=verdict_of(not unread),
        figure=len(unread),
        limit=0,
        cause=cause,
        facts={
            "messages": [
                {"source": item.source, "text": item.text, "judged_by": item.judged_by}
                for item in captured.messages[:20]
            ]
        },
    )
