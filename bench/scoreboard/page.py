"""The board as a page."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

_VERDICTS = ("refused", "warned", "silent", "same")
_TITLES = {
    "transformers": "transformers `from_pretrained`",
    "litgpt": "litgpt convert, strict load",
    "DCP": "PyTorch DCP, Hugging Face reader",
    "apr": "`apr import`",
    "apr --manifest": "`apr import --manifest`",
}
_HEAD = """<!-- made by make scoreboard; do not edit -->

# Scoreboard: what loaders do with a spoilt checkpoint

{num} faults are planted, one at a time, into the folder of a small trained model, and each loader opens the copy as
its users do. Then the loss is measured that training would start from.

- **refused**: an exception before the first loss.
- **warned**: it loads, the loss is wrong, and there was a warning, a log record from WARNING up or a line on stderr.
- **silent**: it loads, the loss is wrong, and nothing is said.
- **same**: it loads and starts from the healthy loss, so that the fault did no harm there; with a warning or without.

"""
_NOTES = """
## How to read it

A loss is wrong, and a fault harmful, where it differs from the healthy one by more than {harm} nat per token, or is no
number. That is meant of these models and this text only: a fault that is *same* everywhere here may do harm elsewhere:
a context length that was never trained in longer texts, an end token where documents are packed, a token without a row
in a text that holds it; and which of two files a loader takes may follow the order of the directory.

The loaders are not alike, and these differences belong to the comparison:

- litgpt and DCP do not read config.json: the model is built from an entry in the code, here one with the healthy
  values. Faults of config.json cannot reach them (*same*), and the entry must be right by other means. DCP reads
  weights only: the model is transformers', from the healthy config, and the tokenizer is read with `tokenizers`.
- {num_trust} faults are marked with a dagger (†): the folder is well formed, and nothing in it contradicts the rest. A
  loader could at best suspect something. Only a digest from elsewhere tells, and only `--manifest` is given one.
- What `apr import` warns of (a matrix of zeros, of one number, or there twice) is recorded in the file, and
  `apr pretrain` refuses it at step zero unless `--accept` was given. The board shows the import alone.
- *refused* counts any exception, helpful or not; the first lines are in `bench/results/scoreboard.json`. What the
  healthy folder makes a loader say is not counted as a warning.
- The faults are ours. A suite of somebody else's faults might rank the loaders otherwise.

Healthy losses (nats per token; ln V is {ln_v}): {healthy}.

## Rerun it

`make scoreboard` makes an environment for the peers (`requirements/peers.txt`), trains the two models (a llama with a
tied head and llama3 rope scaling; a qwen2 with biases and an untied head), plants, loads and writes this page. Losses
depend on the machine in the last digits. The models are trained so that each part counts: the text can be predicted
only by position and with the MLP, biases start large, and the embedding is small enough for the norm's epsilon.

Versions: {versions}.
"""


def page(board: dict[str, Any]) -> str:
    """The page, as Markdown."""
    rows = board["faults"]
    by_digest = [row for row in rows if row["gate"] == "source.trust"]
    plain = [row for row in rows if row not in by_digest]
    return (
        _HEAD.format(num=len(rows))
        + f"The {len(plain)} that a look at the folder can tell:\n\n{_summary(plain)}\n"
        + f"The {len(by_digest)} that only a digest from elsewhere tells (†):\n\n{_summary(by_digest)}"
        + "\n## Fault by fault\n\n"
        + _table(board)
        + _NOTES.format(
            harm=board["harm_from_nats"],
            num_trust=len(by_digest),
            ln_v=f"{math.log(board['vocab_size']):.3f}",
            healthy=_healthy(board["healthy"]),
            versions=_versions(board["versions"]),
        )
    )


def _summary(rows: list[dict[str, Any]]) -> str:
    lines = ["| loader | refused | warned | silent | same |", "|---|---|---|---|---|"]
    for name, title in _TITLES.items():
        counts = Counter(_verdict(row["loaders"][name]) for row in rows)
        lines.append(f"| {title} | " + " | ".join(str(counts[verdict]) for verdict in _VERDICTS) + " |")
    return "\n".join(lines) + "\n"


def _table(board: dict[str, Any]) -> str:
    lines = ["| fault | planted | " + " | ".join(_TITLES) + " |", "|---" * (2 + len(_TITLES)) + "|"]
    for row in board["faults"]:
        mark = " †" if row["gate"] == "source.trust" else ""
        name = f"`{row['id'].removeprefix('source.')}`{mark}"
        cells = [_cell(row["loaders"][loader]) for loader in _TITLES]
        lines.append(f"| {name} | {row['says']} ({row['model']}) | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _verdict(cell: dict[str, Any]) -> str:
    """A crash and a load without end are no answer to build on, but nobody trains from them."""
    return "refused" if cell["verdict"] in ("crashed", "endless") else str(cell["verdict"])


def _cell(cell: dict[str, Any]) -> str:
    if cell["verdict"] in ("warned", "silent"):
        loss = "no number" if cell["loss"] is None else f"{cell['loss']:.3f}"
        return f"**{cell['verdict']}** {loss}"
    return "same, warned" if cell["verdict"] == "same" and cell["warnings"] else str(cell["verdict"])


def _healthy(healthy: dict[str, dict[str, float]]) -> str:
    parts = []
    for model in next(iter(healthy.values())):
        losses = sorted({losses[model] for losses in healthy.values()})
        told = f"{losses[0]:.4f}" + (f" to {losses[-1]:.4f}" if len(losses) > 1 else "")
        parts.append(f"{model} {told}")
    return ", ".join(parts)


def _versions(versions: dict[str, dict[str, str]]) -> str:
    found: dict[str, set[str]] = {}
    for packages in versions.values():
        for package, version in packages.items():
            found.setdefault(package, set()).add(version)
    return ", ".join(f"{package} {' and '.join(sorted(every))}" for package, every in found.items())
