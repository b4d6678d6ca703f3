"""Two runs of the real command on a real checkpoint, in processes and folders of their own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from command import run_apr
from contracts.claims.start import step0_signal
from contracts.scene import Run, require_success

# Modules that every supported Python has: some 180,000 tokens.
_MODULES = (
    *("ast", "bisect", "calendar", "cmd", "code", "colorsys", "configparser", "contextlib", "csv", "dis"),
    *("fnmatch", "fractions", "getopt", "glob", "gzip", "heapq", "keyword", "linecache", "mailbox", "netrc"),
    *("pprint", "queue", "reprlib", "sched", "shlex", "shutil", "socketserver", "statistics", "string"),
    *("textwrap", "token", "uuid"),
)


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let one test process make what the others then find."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def source_shards(tokenizer: Path, folder: Path) -> Path:
    """Shards of Python standard library source, encoded by the real command; made once."""
    corpus, out, library = folder / "corpus", folder / "shards", Path(sysconfig.get_paths()["stdlib"])
    if not corpus.exists():
        corpus.mkdir(parents=True)
        for name in _MODULES:
            shutil.copy(library / f"{name}.py", corpus)
        options = ("--corpus", corpus, "--tokenizer", tokenizer, "-o", out, "--val-fraction", "0.3")
        done = run_apr("tokenize", "encode-corpus", *options)
        assert done.code == 0, done.stderr
    return out


class RealRuns:
    """`apr pretrain --init --num-steps 0 --seed 42`, twice; what another test process ran is taken over."""

    def __init__(self, init: Path, shards: Path, folder: Path, options: tuple[str, ...]) -> None:
        self.init, self.shards, self.folder, self.options = init, shards, folder, options

    @cached_property
    def first(self) -> Run:
        return self._run("first")

    @cached_property
    def second(self) -> Run:
        return self._run("second")

    def _run(self, name: str) -> Run:
        run_dir, kept = self.folder / name, self.folder / f"{name}.json"
        with one_at_a_time(self.folder / f"{name}.lock"):
            if not kept.exists():
                fixed = (
                    "--init",
                    self.init,
                    "--dataset",
                    self.shards,
                    "--run-dir",
                    run_dir,
                    "--device",
                    "cpu",
                )
                run = ("--num-steps", "0", "--seed", "42", "--format", "json", *self.options)
                # Two honest runs differ in the order of hashes too.
                env = {**os.environ, "PYTHONHASHSEED": str(len(name))}
                if "PYTEST_XDIST_WORKER" in os.environ:
                    env["OMP_NUM_THREADS"] = (
                        "1"  # processes with two threads each on two cores wait for one another
                    )
                kept.write_text(json.dumps(asdict(run_apr("pretrain", *fixed, *run, env=env))))
        return require_success(Run(**json.loads(kept.read_bytes()), run_dir=run_dir))

    def drop_checkpoints(self) -> None:
        """Free the disk: pytest keeps its folders, and these are gigabytes."""
        for name in ("first", "second"):
            for path in (self.folder / name / "ckpt").glob("*.apr"):
                path.unlink()


def real_step0_signal(run: Run, num_tokens: int) -> None:
    """INIT-006 on a real checkpoint, with the figures of so many validation tokens."""
    step0_signal(run.certificate["step0"], val_at_most=6.0, random_at_least=9.5, gap=3.0)
    assert run.certificate["grade"] == "A", "the reference is not an independent implementation's"
    assert run.gate("loss.step0")["facts"]["num_tokens"] == num_tokens
