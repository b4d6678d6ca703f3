"""apr tokenize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from apr.cli.output import emit, format_option
from apr.cli.screen import screen
from apr.workflows.tokenizing import encode, import_tokenizer


@click.group("tokenize")
def tokenize_group() -> None:
    """Take over a tokenizer, and turn a corpus into token shards."""


@tokenize_group.command("import-hf")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--eos-token", help="The token that ends a document, where the source does not say.")
@click.option("--force", is_flag=True, help="Replace a tokenizer that is there.")
@format_option
def import_hf_command(
    source: Path, output: Path, eos_token: str | None, force: bool, output_format: str
) -> None:
    """Take a tokenizer over from a Hugging Face folder, a tokenizer.json, a GGUF file or an .apr file.

    \b
    Example:
      apr tokenize import-hf model.gguf -o tokenizer
    """
    emit(import_tokenizer(source, output, eos_token=eos_token, force=force), output_format, _render_tokenizer)


def _render_tokenizer(result: dict[str, Any]) -> str:
    return (
        f"{result['path']}: {result['vocab_size']:,} entries, end of text {result['end_of_text_id']} "
        f"({result['end_of_text_reason']}), sha256 {result['sha256']}"
    )


@tokenize_group.command("encode-corpus")
@click.option(
    "--corpus",
    metavar="PATH[:WEIGHT]",
    multiple=True,
    required=True,
    help="Folder, text, .jsonl, .gz, .zst or .parquet; may be given again. WEIGHT is how often its documents are "
    "taken: 0.5 takes half of them, chosen by their hash, and 2 takes each twice; held-out ones are taken once.",
)
@click.option(
    "--tokenizer", type=click.Path(path_type=Path), required=True, help="Folder, tokenizer.json or .apr."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of shards to make; validation goes to its val/.",
)
@click.option("--glob", default="**/*", show_default=True, help="Which files of a folder.")
@click.option(
    "--content-field",
    default="content",
    show_default=True,
    help="Field of a JSON line, or parquet column, with the text.",
)
@click.option(
    "--on-bad",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Bad UTF-8, bad JSON, missing field.",
)
@click.option(
    "--eos",
    "eos_policy",
    type=click.Choice(["after", "between", "none"]),
    default="after",
    show_default=True,
    help="Where the end-of-text token goes.",
)
@click.option("--eos-token", help="The token that ends a document, where the tokenizer does not say.")
@click.option(
    "--val-fraction",
    type=float,
    default=0.02,
    show_default=True,
    help="Share of documents held out, by their hash.",
)
@click.option("--seed", type=int, default=42, show_default=True, help="Of the split.")
@click.option(
    "--dedup",
    type=click.Choice(["none", "exact", "near"]),
    default="none",
    show_default=True,
    help="exact leaves out a document with the bytes of an earlier one, near also one that resembles it; "
    "duplicates.jsonl names both.",
)
@click.option(
    "--dedup-threshold",
    type=float,
    metavar="SIMILARITY",
    help="Of --dedup near: from which share of common five-word shingles on, 0.5 to 1.  [default: 0.8]",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "hf", "fastokens"]),
    default="auto",
    show_default=True,
    help="What encodes; all give the ids of HF tokenizers (hf), or are refused.",
)
@click.option("--shard-tokens", type=int, default=10_000_000, show_default=True, help="Tokens of a shard.")
@click.option(
    "--part",
    metavar="I/N",
    help="Encode only part I of N, on this machine; `apr data merge` makes the dataset of all of them.",
)
@click.option(
    "--force", is_flag=True, help="Replace a dataset that is there, or begin an unfinished one anew."
)
@format_option
def encode_corpus_command(
    output_format: str, corpus: tuple[str, ...], tokenizer: Path, output: Path, **options: Any
) -> None:
    """Turn a corpus into token shards, split by document hash, on all cores.

    A sample of documents is decoded back and compared while it runs; a difference stops it. When it is killed or
    interrupted, the same command goes on where it stopped, to the same bytes.

    A fast engine is compared with HF tokenizers over a suite of hard texts, then over a sample of every batch. Where
    an id differs, `--engine NAME` stops, and `auto` says so and encodes everything with HF tokenizers; `auto` also
    takes those for a corpus below 8 MiB.

    \b
    Examples:
      apr tokenize encode-corpus --corpus text/ --tokenizer model.apr -o shards
      apr tokenize encode-corpus --corpus text/ --tokenizer model.apr -o shards --engine fastokens
      apr tokenize encode-corpus --corpus text/ --tokenizer model.apr -o shards --dedup near
    """
    with screen() as shown:
        result = encode(
            list(corpus), tokenizer, output, on_progress=shown.phase, on_note=shown.note, **options
        )
    emit(result, output_format, _render_part if "part" in result else render_dataset)


def _render_part(result: dict[str, Any]) -> str:
    part = result["part"]
    return (
        f"{part['path']}: part {part['index']} of {part['count']}, {part['total_tokens']:,} tokens of "
        f"{part['total_documents']:,} documents\n" + _render_counts(result)
    )


def render_dataset(result: dict[str, Any]) -> str:
    """Say what was written: its folders, sources and counts."""
    lines = [
        f"{part['path']}: {part['total_tokens']:,} tokens of {part['total_documents']:,} documents in "
        f"{part['shard_count']} shards"
        for part in (result["train"], result["validation"])
        if part
    ]
    if len(result["sources"]) > 1:
        lines += [
            f"  {source['name']}: {source['num_tokens']:,} tokens of {source['num_documents']:,} documents, "
            f"weight {source['weight']:g}"
            for source in result["sources"]
        ]
    if result["dedup"] is not None:
        lines.append(render_dedup(result["dedup"], result["train"]["path"]))
    lines.append(_render_counts(result))
    return "\n".join(lines)


def render_dedup(dedup: dict[str, Any], path: str) -> str:
    """Say how many copies were left out, and where they are listed."""
    documents, size = (sum(row[name] for row in dedup["dropped"]) for name in ("num_documents", "num_bytes"))
    near = ""
    if "near" in dedup:
        count = sum(row["num_near"] for row in dedup["dropped"])
        near = (
            f" ({count:,} of them not to the byte, but of similarity {dedup['near']['threshold']:g} or more)"
        )
    return (
        f"{documents:,} copies of earlier documents left out{near}, {size:,} bytes: {path}/duplicates.jsonl"
    )


def _render_counts(result: dict[str, Any]) -> str:
    before, engine = result["tokens_before"], result["engine"]
    counts = (
        f"{result['round_trips']:,} documents decoded back and equal; {result['tokens_per_sec']:,.0f} tokens/s; "
        f"{result['skipped']} bad, {result['empty']} empty"
        + (f"; went on behind {before:,} tokens of a run that was stopped" if before else "")
    )
    return counts if engine is None else f"{_render_engine(engine)}\n{counts}"


def _render_engine(engine: dict[str, Any]) -> str:
    compared = engine["audited_documents"]
    equal = "" if compared is None else f", {compared:,} documents compared with HF tokenizers and equal"
    return f"engine {engine['name']} {engine['version']}{equal}"
