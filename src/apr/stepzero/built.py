"""The module as it was built: read back from its parts and held against the config it was built from.

A norm epsilon of 1e-5 instead of 1e-6 changes a loss by less than most tolerances notice, and a rope base can be right
in the config and wrong in the tables. So the parts themselves are asked, and the rotary tables are computed here a
second time, in fp64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from apr.stepzero.gate import GateResult, verdict_of

ROPE_POSITIONS = (0, 1, 2, 17, 255)
ROPE_TOLERANCE = 1e-4  # absolute, of cosines and sines: fp32 angles at position 255 are good to 3e-5


def rope_reference(
    positions: Sequence[int], head_dim: int, theta: float, scaling: Mapping[str, Any] | None
) -> np.ndarray:
    """Compute cosines and sines of rotary embedding in fp64.

    Args:
        positions: which ones, P of them.
        head_dim: H.
        theta: the base (Su et al. 2021, arXiv:2104.09864).
        scaling: the fields of RopeScaling, or None.

    Returns:
        fp64 [2, P, H/2].
    """
    inverse = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if scaling is not None and scaling["rope_type"] == "linear":
        inverse = inverse / scaling["factor"]
    elif scaling is not None:
        # Llama 3.1 (arXiv:2407.21783): long wavelengths are divided, short ones kept, those between are blended.
        context, low, high = (
            scaling[key]
            for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
        )
        wavelength = 2 * math.pi / inverse
        blend = np.clip((context / wavelength - low) / (high - low), 0.0, 1.0)
        inverse = (1 - blend) * inverse / scaling["factor"] + blend * inverse
    angles = np.outer(np.asarray(positions, dtype=np.float64), inverse)
    return np.stack([np.cos(angles), np.sin(angles)])


def built_gate(
    *,
    claims: Mapping[str, Any],
    found: Mapping[str, Any],
    rope_expected: np.ndarray,
    rope_found: np.ndarray,
) -> GateResult:
    """The parts of the module are those of the config.

    Args:
        claims: what the config says, by field.
        found: the same fields read back from the module; several values where its parts disagree, joined by "and".
        rope_expected, rope_found: cosines and sines at ROPE_POSITIONS, [2, P, H/2].
    """
    differing = [
        f"{name} is {found.get(name)} in the module and {claim} in the config"
        for name, claim in claims.items()
        if found.get(name) != claim
    ]
    same_shape = rope_expected.shape == rope_found.shape
    rope_gap = float(np.abs(rope_expected - rope_found).max()) if same_shape else math.inf
    if not rope_gap <= ROPE_TOLERANCE:
        differing.append(
            f"the rotary angles are not those of the config (cosines and sines differ by {rope_gap:.2g}): "
            "theta, scaling or positions are wrong"
        )
    return GateResult(
        id="model.built",
        claim="the module's parts are those of the config",
        verdict=verdict_of(not differing),
        figure=len(differing),
        limit=0,
        cause="; ".join(differing[:3]),
        facts={"found": dict(found), "rope_difference": rope_gap, "rope_tolerance": ROPE_TOLERANCE},
    )


def placement_gate(
    *, asked_device: str, devices: Sequence[str], stored_types: Sequence[str], asked_type: str, computed: str
) -> GateResult:
    """Parameters are fp32 on the device that was asked for, and hidden states have the asked compute type.

    Args:
        asked_device: of the plan, resolved: `cpu`, `cuda:0`.
        devices, stored_types: of all parameters, each value once.
        asked_type: compute type of the plan, `fp32` or `bf16`.
        computed: type that the hidden states really have.
    """
    wrong = []
    if list(devices) != [asked_device]:
        wrong.append(f"parameters are on {' and '.join(devices)}, not on {asked_device}")
    if list(stored_types) != ["fp32"]:
        wrong.append(f"parameters are {' and '.join(stored_types)}, not fp32")
    if computed != asked_type:
        wrong.append(f"hidden states are {computed}, not {asked_type}")
    return GateResult(
        id="model.placement",
        claim="device and types are those asked for",
        verdict=verdict_of(not wrong),
        figure=f"{' '.join(devices)}, {' '.join(stored_types)} computing in {computed}",
        limit=f"{asked_device}, fp32 computing in {asked_type}",
        cause="; ".join(wrong),
    )
