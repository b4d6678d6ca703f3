"""Refusals of step zero."""

from __future__ import annotations

from dataclasses import dataclass

from apr.base.errors import AprError


@dataclass(kw_only=True, eq=False)
class ReferenceMalformed(AprError):
    """The reference recorded in a file cannot be read."""

    id = "APR501"
    text = "the reference recorded in {source} is unusable: {reason}"
    help = "import the checkpoint again from its source"
    source: str
    reason: str


@dataclass(kw_only=True, eq=False)
class StepZeroRefused(AprError):
    """A gate of step zero answered no; no step was taken and no checkpoint written."""

    id = "APR502"
    text = "step zero refused: {gate}: {claim}, but the figure is {figure} and the limit {limit}"
    help = "{advice_text}"
    gate: str
    claim: str
    figure: str
    limit: str
    advice_text: str = "see the certificate in the run directory; nothing was trained"


@dataclass(kw_only=True, eq=False)
class OracleFailed(AprError):
    """The independent implementation could not compute the reference."""

    id = "APR503"
    text = "the transformers library could not compute the reference: {reason}"
    help = "give --oracle self to record our own figures (grade B), or --oracle none (grade C)"
    reason: str
