"""The apr entry point: find the command, run it, turn whatever happens into one sentence and an exit code.

Nothing heavy is imported here: `apr --help` must answer at once, so a command's module is loaded only when that
command is called. The table below therefore repeats each command's first help line; a test holds them equal.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from apr import __version__
from apr.base.errors import EXIT_BUG, EXIT_NO_ANSWER, AprError, Interrupted, OutOfMemory, SystemRefused
from apr.cli.output import UsageWrong, print_error, wants_json

# name -> (module, attribute, first line of its help)
COMMANDS = {
    "import": (
        "apr.cli.import_command",
        "import_command",
        "Make an .apr file from a GGUF file, a Hugging Face folder or a hub id.",
    ),
    "inspect": (
        "apr.cli.inspect_commands",
        "inspect_command",
        "Show what an .apr file is, after checking every byte of it.",
    ),
    "tensors": (
        "apr.cli.inspect_commands",
        "tensors_command",
        "List the tensors of an .apr file.",
    ),
    "tokenize": (
        "apr.cli.tokenize_commands",
        "tokenize_group",
        "Take over a tokenizer, and turn a corpus into token shards.",
    ),
    "data": (
        "apr.cli.data_commands",
        "data_group",
        "Join the parts of a dataset, and see what it holds.",
    ),
    "plan": (
        "apr.cli.plan_command",
        "plan_command",
        "Show what a run would be and take, without building a model or writing anything.",
    ),
    "pretrain": (
        "apr.cli.pretrain_command",
        "pretrain_command",
        "Train from a checkpoint, once it is proven to be that checkpoint.",
    ),
    "eval": (
        "apr.cli.eval_command",
        "eval_command",
        "Measure a model's loss on held-out tokens or text.",
    ),
    "verify": (
        "apr.cli.verify_command",
        "verify_command",
        "Check a run directory or a certificate against its own bytes and digests.",
    ),
    "falsify": (
        "apr.cli.falsify_command",
        "falsify_command",
        "Plant known faults in copies of a checkpoint, and see that each is refused.",
    ),
    "run": (
        "apr.cli.run_command",
        "run_command",
        "Continue a prompt.",
    ),
    "contracts": (
        "apr.cli.contracts_command",
        "contracts_command",
        "Read contracts, run what would refute them, compute what survived (the same as pv).",
    ),
    "demo": (
        "apr.cli.demo_command",
        "demo_command",
        "Continue the pretraining of a real 135M model in a few minutes.",
    ),
    "explain": (
        "apr.cli.explain_command",
        "explain_command",
        "Explain an error id.",
    ),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of a first visit."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list from the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="apr")
def apr() -> None:
    """Continue pretraining from a checkpoint, with proof before step 1 that it is that checkpoint.

    \b
    Example, from a GGUF file and a folder of text:
      apr import model.gguf -o model.apr
      apr tokenize encode-corpus --corpus text/ --tokenizer model.apr -o shards
      apr pretrain --init model.apr --dataset shards --run-dir run --num-steps 100
    """


def entry(argv: list[str] | None = None) -> int:
    """Run apr and return its exit code: 0 yes, 1 the answer is no, 2 no answer, 3 our bug."""
    arguments = sys.argv[1:] if argv is None else argv
    as_json = wants_json(arguments)
    try:
        code = apr.main(args=arguments, prog_name="apr", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except AprError as error:
        return _refusal(error, as_json)
    except click.ClickException as error:
        return _usage(error, as_json)
    except (KeyboardInterrupt, click.Abort):
        return _refusal(Interrupted(signal="Ctrl-C"), as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; say nothing more
        return EXIT_NO_ANSWER
    except Exception as error:
        if os.environ.get("APR_TRACEBACK"):
            raise
        if (known := _translated(error)) is not None:
            return _refusal(known, as_json)
        text = (
            f"apr: this is a bug ({type(error).__name__}: {error}); run it with APR_TRACEBACK=1 and report it"
        )
        print(" ".join(text.split()), file=sys.stderr)
        return EXIT_BUG


def _refusal(error: AprError, as_json: bool) -> int:
    print_error(error, as_json)
    return error.exit_code


def _translated(error: Exception) -> AprError | None:
    """What the machine refuses anywhere is not our bug, though no room expected it there."""
    reason = str(error).partition("\n")[0]
    # torch's own have no common class: one for CUDA by name, and a plain RuntimeError for the CPU.
    is_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in reason
    if isinstance(error, MemoryError) or is_torch:
        return OutOfMemory(reason=reason or "an allocation failed")
    if isinstance(error, OSError):
        return SystemRefused(path=str(error.filename or "a file"), reason=error.strerror or reason)
    return None


def _usage(error: click.ClickException, as_json: bool) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message())
        return EXIT_NO_ANSWER
    told = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    what = told[:1].lower() + told[1:]  # click begins a sentence, and here it stands inside one
    return _refusal(UsageWrong(what=what, command=context.command_path if context else "apr"), as_json)
