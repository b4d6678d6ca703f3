"""The pv entry point: find the command, run it, turn whatever happens into one sentence and an exit code.

Nothing heavy is imported here: a command's module is loaded only when that command is called, so that `pv validate` of
one file stays quick. The table below therefore repeats each command's first help line; a test holds them equal.
"""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

from pv import __version__
from pv.errors import EXIT_BUG, EXIT_NO_ANSWER, Interrupted, PathUnreadable, PvError, UsageWrong

# name -> (module, attribute, first line of its help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "validate": (
        "pv.cli.validate_command",
        "validate_command",
        "Judge one contract, or every one in a folder, by schema and rules.",
    ),
    "lint": (
        "pv.cli.lint_command",
        "lint_command",
        "Judge all contracts of a folder together, and what they name in the project.",
    ),
    "explain": (
        "pv.cli.explain_command",
        "explain_command",
        "Print the page of a rule or of an error: what it finds, why that is bad, what to write or to do.",
    ),
    "falsify": (
        "pv.cli.falsify_command",
        "falsify_command",
        "Run the falsification tests of contracts, and each again under the defects that must make it fail.",
    ),
    "prove": (
        "pv.cli.prove_command",
        "prove_command",
        "Look for counterexamples inside the bounds that contracts state.",
    ),
    "status": (
        "pv.cli.status_command",
        "status_command",
        "Compute from recorded runs what is borne out, and say why it is not more.",
    ),
    "diff": (
        "pv.cli.diff_command",
        "diff_command",
        "Compare what two contracts, or two folders of them, claim: what is weaker, stronger, reworded.",
    ),
    "gate": (
        "pv.cli.gate_command",
        "gate_command",
        "Close before a change that makes a claim weaker without a waiver, or touches one and has not run it.",
    ),
    "graph": (
        "pv.cli.graph_command",
        "graph_command",
        "Show which contract depends on which; a missing one and a circle are errors.",
    ),
    "coverage": (
        "pv.cli.coverage_command",
        "coverage_command",
        "Show which obligations have a falsifier that is run and can fail, and which only a word.",
    ),
    "scaffold": (
        "pv.cli.scaffold_command",
        "scaffold_command",
        "Write a contract whose falsifiers are tests that there are, to be filled in.",
    ),
    "infer": (
        "pv.cli.infer_command",
        "infer_command",
        "Mine claims from a healthy run, as a contract to be reviewed; or judge a run by such claims.",
    ),
    "bundle": (
        "pv.cli.bundle_commands",
        "bundle_command",
        "Write contracts, their evidence and all digests into one archive, for `pv replay` elsewhere.",
    ),
    "replay": (
        "pv.cli.bundle_commands",
        "replay_command",
        "Run the claims of a bundle again, against the project here, and compare.",
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
@click.version_option(__version__, prog_name="pv")
def pv() -> None:
    """Read contracts, run what would refute them, compute what survived.

    \b
    Example:
      pv validate contracts/tokens-v1.yaml
      pv lint contracts
    """


def entry(argv: list[str] | None = None) -> int:
    """Run pv and return its exit code: 0 yes, 1 the answer is no, 2 no answer, 3 our bug."""
    arguments = sys.argv[1:] if argv is None else argv
    if sys.stderr is None:  # closed by the shell: there is nobody to talk to
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a file name may hold bytes that are no text: they are spelled out
            stream.reconfigure(errors="backslashreplace")
    try:
        code = pv.main(args=arguments, prog_name="pv", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except PvError as error:
        return _refusal(error)
    except click.ClickException as error:
        return _usage(error)
    except (KeyboardInterrupt, click.Abort):
        return _refusal(Interrupted())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; say nothing more
        return EXIT_NO_ANSWER
    except OSError as error:  # a full disk, a limit of the machine: not our bug
        reason = error.strerror or str(error)
        return _refusal(PathUnreadable(path=str(error.filename or "a file"), reason=reason, done="used"))
    except Exception as error:
        if os.environ.get("PV_TRACEBACK"):
            raise
        text = (
            f"pv: this is a bug ({type(error).__name__}: {error}); run it with PV_TRACEBACK=1 and report it"
        )
        print(" ".join(text.split()), file=sys.stderr)
        return EXIT_BUG


def _refusal(error: PvError) -> int:
    print(f"pv: {error.id}: {error}", file=sys.stderr)
    return error.exit_code


def _usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message())
        return EXIT_NO_ANSWER
    told = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    what = told[:1].lower() + told[1:]  # click begins a sentence, and here it stands inside one
    return _refusal(UsageWrong(what=what, command=context.command_path if context else "pv"))
