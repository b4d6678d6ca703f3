"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable

import click

from pv.profile import Profile

profile_option = click.option(
    "--profile",
    type=click.Choice([profile.label for profile in Profile]),
    default=Profile.STRICT.label,
    show_default=True,
    help="Whose keys and rules: the field's first or second generation, or ours.",
)


def format_option(*formats: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """The option --format of a command.

    Args:
        formats: that it has; the first is the default.
    """
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="json is for machines.",
    )
