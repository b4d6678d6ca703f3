"""All rules, in the order in which they are asked."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache

from pv.profile import Profile
from pv.rules.rule import Rule

# The field's order (metadata, keys, equations, provability, obligations, tests, proofs, gate, kinds), and then ours.
MODULES = (
    "tool.yaml_unreadable", "tool.value_unreadable",
    "schema.references_missing", "schema.version_empty",
    "schema.kind_at_top", "schema.key_misspelled", "schema.key_repeated",
    "schema.equations_empty", "schema.formula_empty",
    "schema.not_provable",
    "schema.property_empty", "schema.formal_repeated", "schema.requires_misplaced", "schema.phase_misplaced",
    "schema.parent_misplaced", "schema.parent_not_dependency", "schema.na_reason_missing", "schema.na_owner_missing",
    "schema.na_fields_misplaced",
    "schema.test_id_repeated", "schema.prediction_empty", "schema.if_fails_empty",
    "schema.proof_id_repeated", "schema.proof_obligation_empty", "schema.bound_missing",
    "schema.qa_gate_missing",
    "kinds.beat_missing", "kinds.incumbent_unknown", "kinds.metric_empty", "kinds.direction_unknown",
    "kinds.threshold_missing", "kinds.beat_gate_missing", "kinds.compute_unknown",
    "kinds.kaizen_without_record", "kinds.kaizen_status_unknown", "kinds.kaizen_unfalsifiable",
    "kinds.target_without_baseline", "kinds.no_metric_moves", "kinds.every_cost_rises",
    "kinds.demand_out_of_range", "kinds.competitor_missing",
    "manifest.manifest_without_files", "manifest.manifest_field_missing", "manifest.manifest_sha256_malformed",
    "manifest.manifest_size_not_positive", "manifest.manifest_url_not_https", "manifest.manifest_path_repeated",
    "milestones.milestone_malformed", "milestones.milestone_claim_unknown",
    "strict.key_unknown", "strict.obligation_without_id", "strict.id_malformed", "strict.id_taken",
    "strict.refutes_missing", "strict.refutes_unknown", "strict.obligation_unrefuted", "strict.runner_missing",
    "strict.runner_malformed", "strict.figure_incomplete", "strict.control_missing", "strict.control_malformed",
    "strict.pending_incomplete", "strict.pending_expired", "strict.need_unknown", "strict.subjects_missing",
    "strict.timeout_out_of_range", "strict.proof_without_runner", "strict.proof_bound_missing",
    "strict.proof_of_unknown", "strict.dependency_missing", "strict.dependency_cycle", "strict.status_unknown",
    "strict.nothing_to_refute", "strict.description_empty",
    "strict.subject_matches_nothing", "strict.test_missing", "strict.edit_misses",
    "strict.target_missing",
    "strict.shell_not_asked_for", "strict.day_malformed", "strict.part_that_is_live", "strict.counted_by_hand",
    "strict.stem_taken", "strict.item_repeated", "strict.version_malformed",
    "tool.suppression_malformed", "tool.suppression_stale", "tool.baseline_stale",
)  # fmt: skip


@cache
def _rule(module: str) -> Rule:
    rule: Rule = importlib.import_module(f"pv.rules.{module}").RULE
    return rule


@cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule, in the order in which they are asked."""
    return tuple(_rule(module) for module in MODULES)


@cache
def rules_of(profile: Profile, *rooms: str) -> tuple[Rule, ...]:
    """The rules of a profile, in order.

    Args:
        profile: how contracts are read.
        rooms: the folders of rules that matter, to load no others; all when none is named.
    """
    chosen = [module for module in MODULES if not rooms or module.partition(".")[0] in rooms]
    return tuple(rule for module in chosen if profile in (rule := _rule(module)).profiles)


@cache
def rules_by_name() -> Mapping[str, Rule]:
    """Every rule under its id and under its name."""
    return {name: rule for rule in all_rules() for name in (rule.id, rule.name)}
