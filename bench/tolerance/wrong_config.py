"""Faults of the values that the decoder was built with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor

from apr.arch.config import RopeScaling, TransformerConfig
from apr.model.decoder import Decoder, RMSNorm
from apr.model.rope import rope_tables
from bench.tolerance.fault import Fault, Plant, Site

LENGTH = 1024  # positions that a planted rope table holds: more than any arrangement asks for


def norms(decoder: Decoder) -> list[RMSNorm]:
    return [module for module in decoder.modules() if isinstance(module, RMSNorm)]


def _other_eps(pick: Callable[[Site], list[RMSNorm]], factor: float | None = None) -> Plant:
    """Exchange 1e-5 and 1e-6, or multiply."""

    @contextmanager
    def plant(site: Site) -> Iterator[None]:
        right = site.decoder.config.rms_norm_eps
        wrong = (1e-6 if right > 3e-6 else 1e-5) if factor is None else right * factor
        try:
            for norm in pick(site):
                norm.eps = wrong
            yield
        finally:
            for norm in pick(site):
                norm.eps = right

    return plant


def roped(tables: Callable[[TransformerConfig], tuple[Tensor, Tensor]]) -> Plant:
    @contextmanager
    def plant(site: Site) -> Iterator[None]:
        site.decoder._rope = tables(site.decoder.config)
        try:
            yield
        finally:
            site.decoder._rope = None

    return plant


def _rope_config(**changes: Callable[[TransformerConfig], object]) -> Plant:
    return roped(
        lambda config: rope_tables(
            replace(config, **{key: value(config) for key, value in changes.items()}), LENGTH
        )
    )


def _scaled(**values: object) -> Plant:
    return _rope_config(rope_scaling=lambda config: RopeScaling(**values))


def _config(name: str, plant: Plant) -> Fault:
    return Fault(name=name, kind="config", plant=plant)


CONFIG_FAULTS = (
    _config("eps 1e-5 for 1e-6 or the reverse, all norms", _other_eps(lambda site: norms(site.decoder))),
    _config(
        "eps 1e-5 for 1e-6 or the reverse, one norm",
        _other_eps(lambda site: [site.decoder.model.layers[site.middle].input_layernorm]),
    ),
    _config(
        "eps 1e-5 for 1e-6 or the reverse, first norm",
        _other_eps(lambda site: [site.decoder.model.layers[0].input_layernorm]),
    ),
    _config(
        "eps 1e-5 for 1e-6 or the reverse, final norm", _other_eps(lambda site: [site.decoder.model.norm])
    ),
    _config("rope theta halved", _rope_config(rope_theta=lambda config: config.rope_theta * 0.5)),
    _config("rope theta x 10", _rope_config(rope_theta=lambda config: config.rope_theta * 10)),
    _config("rope theta x 1.01", _rope_config(rope_theta=lambda config: config.rope_theta * 1.01)),
    _config("rope theta 1e4", _rope_config(rope_theta=lambda config: 1e4)),
    _config(
        "llama3 scaling added (factor 8, 1, 4, 8192)",
        _scaled(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
    ),
    _config("linear scaling by 1.01 added", _scaled(rope_type="linear", factor=1.01)),
    _config("linear scaling by 2 added", _scaled(rope_type="linear", factor=2.0)),
)
