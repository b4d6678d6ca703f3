"""Options that several commands have."""

from __future__ import annotations

import click

from pv.profile import Profile

profile_option = click.option(
    "--profile",
    type=click.Choice([profile.label for profile in Profile]),
    default=Profile.STRICT.label,
    show_default=True,
    help="Whose keys and rules: the field's first or second generation, or ours.",
)
