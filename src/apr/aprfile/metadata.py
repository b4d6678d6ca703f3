"""What an .apr file says about its model: made for writing, judged when read.

The whole truth is one object, `apr_pretrain`, which only this program reads. The typed keys say the same as
far as they can, so that other tools can run the file; where the two differ the file is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apr.aprfile.errors import FactsBad, MetadataContradiction, TokenizerDigestWrong
from apr.aprfile.evidence import check_against_tensors, model_tensors, refuse_other_architectures
from apr.aprfile.foreign import read_foreign_config
from apr.aprfile.keys import FIELDS, HF_CLASSES, OWN_KEY, stated
from apr.aprfile.reader import AprFile
from apr.aprfile.vocabulary import vocabulary_keys
from apr.arch.config import TransformerConfig, parse_config
from apr.arch.counts import parameter_count
from apr.base.files import sha256_bytes

__all__ = [
    "FINDING_RULES",
    "TRUST_ROOTS",
    "ModelFacts",
    "check_against_tensors",
    "model_metadata",
    "model_tensors",
    "read_facts",
]

_SPLIT_HALVES = 2  # rope_type of rotary pairs (i, i + H/2); Hugging Face's order of rows, and so ours
FINDING_RULES = ("zero", "constant", "duplicated")  # what an import judges of every tensor's values
TRUST_ROOTS = ("manifest", "sha256", "hub", "first use")  # what said that the source is the one that is meant
_OBJECTS = ("tokenizer", "tie", "reference", "producer", "lineage", "trust")
_LISTS = ("findings", "accepted")  # left out where they are empty
_KNOWN = {"config", "tokenizer_json", "tokenizer_json_sha256", "sources", "digests", *_OBJECTS, *_LISTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a checkpoint besides its weights; None is "the file does not say"."""

    config: TransformerConfig
    tokenizer_json: str | None = None  # the whole text
    tokenizer: dict[str, Any] | None = None  # the special ids that the text does not say
    sources: tuple[dict[str, Any], ...] = ()  # files it was made from, with digests
    tie: dict[str, Any] | None = None  # how it was decided that the head is the embedding, with figures
    reference: dict[str, Any] | None = None  # what the weights must give on the probe
    producer: dict[str, Any] | None = None
    lineage: dict[str, Any] | None = None  # for a trained file: from what, by which plan, how far
    findings: tuple[dict[str, Any], ...] = ()  # odd tensors: {rule, tensor, message}
    accepted: tuple[str, ...] = ()  # the rules whose findings are meant to be there
    trust: dict[str, Any] | None = None  # what the source was held against: {root, checked, unchecked, says}


def model_metadata(
    facts: ModelFacts,
    *,
    name: str | None = None,
    license: str | None = None,
    data_source: str | None = None,
    data_license: str | None = None,
    original_format: str | None = None,
) -> dict[str, Any]:
    """Make the metadata of a file: the field's typed keys, its tokenizer keys, and `apr_pretrain`.

    Args:
        facts: what is known of the model.
        name: what the model is called.
        license, data_source, data_license: provenance, SPDX where it is a licence; null where not known.
        original_format: what it was imported from (`safetensors`, `gguf`).

    Raises:
        FactsBad: the tokenizer.json is none, or has more tokens than the model has rows.
    """
    metadata = _typed_keys(facts.config)
    # These three may not be left out, null or not; the field's writers forbid it.
    metadata |= {"license": license, "data_source": data_source, "data_license": data_license}
    optional = {"name": name, "original_format": original_format}
    metadata |= {key: value for key, value in optional.items() if value is not None}
    if facts.config.tie_word_embeddings:
        metadata["tied_embeddings"] = True
    if facts.tokenizer_json is not None:
        special_ids, rows = facts.tokenizer or {}, facts.config.vocab_size
        metadata |= vocabulary_keys(facts.tokenizer_json, special_ids, rows, "the model's tokenizer")
    metadata[OWN_KEY] = _own_object(facts)
    return metadata


def _typed_keys(config: TransformerConfig) -> dict[str, Any]:
    sizes = {key: getattr(config, field) for key, field in FIELDS.items()}
    return {
        **sizes,
        "rms_norm_eps": float(config.rms_norm_eps),
        "rope_theta": float(config.rope_theta),
        "rope_type": _SPLIT_HALVES,
        "model_type": config.family,
        "architecture": config.family,
        "hf_model_type": config.family,
        "hf_architecture": HF_CLASSES[config.family],
        "total_size": 0,  # what every writer of the field leaves here
        "param_count": parameter_count(config),
    }


def _own_object(facts: ModelFacts) -> dict[str, Any]:
    own: dict[str, Any] = {"config": facts.config.to_dict(), "sources": list(facts.sources)}
    if facts.tokenizer_json is not None:
        own["tokenizer_json"] = facts.tokenizer_json
        own["tokenizer_json_sha256"] = sha256_bytes(facts.tokenizer_json.encode())
    own |= {field: value for field in _OBJECTS if (value := getattr(facts, field)) is not None}
    own |= {field: list(value) for field in _LISTS if (value := getattr(facts, field))}
    return own


def read_facts(file: AprFile) -> ModelFacts:
    """Read what a file says about its model, and hold it against the tensors.

    Args:
        file: an open file, ours or another program's; the latter has a config and nothing else.

    Raises:
        ArchitectureUnsupported, TensorNamesForeign, ProducerUnsupported: no decoder that can be trained here.
        FactsBad, TokenizerDigestWrong: the description is damaged.
        MetadataContradiction, ArchContradiction: it contradicts itself, or its tensors.
        ConfigFieldMissing, ConfigFieldUnknown, ConfigValueBad, FeatureUnsupported: the config.
    """
    source, shapes = str(file.path), model_tensors(file)
    refuse_other_architectures(shapes, source)
    if file.is_ours:
        facts = _read_own(file.metadata, source)
    else:
        config, tie = read_foreign_config(file, shapes)
        facts = ModelFacts(config=config, tie=tie)
    check_against_tensors(facts.config, shapes, source)
    return facts


def _read_own(metadata: Mapping[str, Any], source: str) -> ModelFacts:
    own = metadata[OWN_KEY]
    _check_own(own, source)
    config = parse_config(own["config"], source)
    _check_typed_keys(metadata, config, source)
    return ModelFacts(
        config=config,
        tokenizer_json=_tokenizer_text(own, source),
        sources=tuple(own.get("sources", ())),
        findings=tuple(own.get("findings", ())),
        accepted=tuple(own.get("accepted", ())),
        **{field: own.get(field) for field in _OBJECTS},
    )


def _check_own(own: Any, source: str) -> None:
    def demand(field: str, value: Any, holds: bool, limit: str) -> None:
        if not holds:
            raise FactsBad(path=source, field=f"{OWN_KEY}{field}", value=repr(value)[:80], limit=limit)

    demand("", own, isinstance(own, dict), "a JSON object")
    for key in own:
        demand(f".{key}", own[key], key in _KNOWN, f"a known field ({', '.join(sorted(_KNOWN))})")
    demand(".config", own.get("config"), isinstance(own.get("config"), dict), "a JSON object")
    for field in _OBJECTS:
        value = own.get(field)
        demand(f".{field}", value, value is None or isinstance(value, dict), "a JSON object or null")
    files = own.get("sources", [])
    are_objects = isinstance(files, list) and all(isinstance(item, dict) for item in files)
    demand(".sources", files, are_objects, "a list of JSON objects")
    for field, (holds, limit) in _JUDGED.items():
        demand(f".{field}", own.get(field), field not in own or holds(own[field]), limit)


def _are_findings(values: Any) -> bool:
    return isinstance(values, list) and all(map(_is_finding, values))


def _is_finding(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"rule", "tensor", "message"}:
        return False
    return _are_texts(list(value.values())) and value["rule"] in FINDING_RULES


def _are_rules(values: Any) -> bool:
    return _are_texts(values) and set(values) <= set(FINDING_RULES)


def _is_trust(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"root", "checked", "unchecked", "says"}:
        return False
    texts = _are_texts([value["root"], value["says"]]) and value["root"] in TRUST_ROOTS
    return texts and _are_texts(value["checked"]) and _are_texts(value["unchecked"])


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


_RULES, _ROOTS = ", ".join(FINDING_RULES), ", ".join(TRUST_ROOTS)
_JUDGED = {
    "findings": (_are_findings, f"a list of objects of rule ({_RULES}), tensor and message"),
    "accepted": (_are_rules, f"a list of rules ({_RULES})"),
    "trust": (_is_trust, f"an object of root ({_ROOTS}), checked, unchecked and says"),
}


def _tokenizer_text(own: Mapping[str, Any], source: str) -> str | None:
    text, expected = own.get("tokenizer_json"), own.get("tokenizer_json_sha256")
    if text is None and expected is None:
        return None
    if not isinstance(text, str):
        limit = "the text that its sha256 is of"
        raise FactsBad(path=source, field=f"{OWN_KEY}.tokenizer_json", value=repr(text)[:80], limit=limit)
    found = sha256_bytes(text.encode())
    if found != expected:
        raise TokenizerDigestWrong(path=source, expected=str(expected), found=found)
    return text


def _check_typed_keys(metadata: Mapping[str, Any], config: TransformerConfig, source: str) -> None:
    expected = {**_typed_keys(config), "tied_embeddings": config.tie_word_embeddings}
    del expected["model_type"], expected["total_size"]  # no two writers of the field agree on them
    differing = {
        spelling: (value, expected[key])
        for key in expected
        for spelling, value in stated(metadata, key).items()
        if not _same(value, expected[key])
    }
    if differing:
        listed = (f"{key} is {value} and {OWN_KEY} says {own}" for key, (value, own) in differing.items())
        raise MetadataContradiction(path=source, fields=", ".join(differing), differences="; ".join(listed))


def _same(value: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        # The field holds these two in fp32; a program that rewrote them may have rounded.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isclose(value, expected, rel_tol=2**-23)
    return type(value) is type(expected) and value == expected
