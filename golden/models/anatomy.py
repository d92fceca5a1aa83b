"""Where the parts of a model lie in its files: which rows of which tensor are the queries of layer 2, and so on.

Faults and hypotheses are written once, for parts. This module finds the parts in a MixFormer folder and in a folder of
transformers. It is written from the descriptions of the formats, not from the rules of converters: with their rules it
could not find a wrong rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from golden.models.key_styles import LLAMA, STYLES, Style
from golden.models.loading import MIXFORMER
from golden.models.parts import EXPERT_DIALS, ConfigPath, Dials, Part, expert_parts
from golden.models.sphere_parts import SPHERE_STYLES, said_sizes, sphere_dials, sphere_parts
from golden.references.form_names import form_of

NORM_KEYS = (("norm_1", "ln_1"), ("norm_2", "ln_2"), ("norm_1", "ln"), ("after_1", "after_1"), ("after_2", "after_2"))
TURNED = ("q", "k", "v", "o", "fc1", "fc2", "up", "gate", "down")  # matrices of a style that is `transposed`
GLUS = ("glu", "glu_bias", "glu_scaled")


@dataclass(frozen=True)
class Anatomy:
    """Sizes, parts and config fields of one model.

    ``parts`` has ``embed``, ``positions``, ``head``, ``final_norm`` and, per layer, ``{i}.q`` and its like (with
    ``_bias`` for biases); only what the model has. Learned scales are ``{i}.qk_scale`` and its like, and
    ``{i}.idle_scale`` where one has no effect. ``dials`` are the config fields that change the function: name ->
    every place in config.json that holds the value.
    """

    n_layer: int
    n_head: int
    n_head_kv: int
    head_dim: int
    parts: Mapping[str, Part]
    dials: Dials

    def layers_with(self, *roles: str) -> list[int]:
        """Layers that have all of the roles."""
        return [i for i in range(self.n_layer) if all(f"{i}.{role}" in self.parts for role in roles)]


def read_anatomy(config: Mapping[str, Any], keys: Mapping[str, Any]) -> Anatomy:
    """The anatomy of a model folder.

    Args:
        config: its config.json.
        keys: its tensors, or anything that has their keys.
    """
    return _mixformer(config, keys) if config.get("model_type") == MIXFORMER else _theirs(config, keys)


def known_anatomy(config: Mapping[str, Any], keys: Mapping[str, Any]) -> Anatomy | None:
    """The anatomy of a model folder; None for an architecture that `read_anatomy` does not know."""
    try:
        return read_anatomy(config, keys)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        return None


def _present(parts: Iterator[tuple[str, Part]], keys: Mapping[str, Any]) -> dict[str, Part]:
    return {role: part for role, part in parts if part.key in keys}


def _dials(config: Mapping[str, Any], places: Dials) -> Dials:
    """The places that this config has; fields that it does not have are left out."""
    found = {name: tuple(path for path in paths if lookup(config, path) is not None) for name, paths in places.items()}
    return {name: paths for name, paths in found.items() if paths}


def lookup(config: Mapping[str, Any], path: ConfigPath) -> Any:
    """The value at a path of a nested config, or None."""
    value: Any = config
    for step in path:
        there = step < len(value) if isinstance(value, list) and isinstance(step, int) else _has(value, step)
        if not there:
            return None
        value = value[step]
    return value


def _has(value: Any, step: str | int) -> bool:
    return isinstance(value, Mapping) and step in value


def _theirs(config: Mapping[str, Any], keys: Mapping[str, Any]) -> Anatomy:
    """A model under transformers' names: LLaMA's for sizes, or GPT-2's."""
    style = {**STYLES, **SPHERE_STYLES}.get(form_of(config), LLAMA)
    said = said_sizes(config)
    n_head, width, n_layer = said["n_head"], said["n_embd"], said["n_layer"]
    n_head_kv = said.get("n_head_kv") or n_head
    head_dim = said.get("head_dim") or width // n_head
    inner = said.get("n_inner") or 4 * width
    sizes = {"q": n_head * head_dim, "kv": n_head_kv * head_dim, "inner": inner}
    parts = _present(_named(style, n_layer, sizes), keys)
    return Anatomy(n_layer, n_head, n_head_kv, head_dim, parts, _dials(config, _THEIR_DIALS))


_THEIR_DIALS: Dials = {
    "theta": (("rope_parameters", "rope_theta"), ("rope_theta",)),
    "eps": (("rms_norm_eps",), ("layer_norm_eps",), ("layer_norm_epsilon",)),
    "activation": (("hidden_act",), ("activation_function",)),
    "tie": (("tie_word_embeddings",),),
    "window": (("sliding_window",),),
    "rotary_dim": (("rotary_dim",),),
    "scaling": (("base_scale",),),
}


def _named(style: Style, n_layer: int, sizes: Mapping[str, int]) -> Iterator[tuple[str, Part]]:
    for role, name, rows in style.places(n_layer):
        start, size = sum(sizes[row] for row in rows[:-1]), sizes[rows[-1]] if rows else None
        turned = style.transposed and role.rpartition(".")[2] in TURNED
        yield role, Part(f"{name}.weight", start, size, turned)
        yield role, Part(f"{name}.parametrizations.weight.original", start, size, turned)
        yield f"{role}_bias", Part(f"{name}.bias", start, size)
        yield role, Part(name, start, size)


def _mixformer(config: Mapping[str, Any], keys: Mapping[str, Any]) -> Anatomy:
    said = config["architecture"]
    places: list[ConfigPath] = [("architecture", i) for i in range(len(said))] if isinstance(said, list) else []
    architecture = said[0] if places else said
    mixer, mlp = architecture.get("mixer", {}), architecture.get("mlp", {})
    head = (config if places else architecture).get("head") or {}
    n_head = int(mixer.get("n_head") or config["n_head"])
    n_head_kv = int(mixer.get("n_head_kv") or config.get("n_head_kv") or n_head)
    head_dim = int(mixer.get("head_dim") or config["n_embd"] // n_head)
    n_inner = int(mlp.get("n_inner") or config.get("n_inner") or 4 * config["n_embd"])
    n_layer = len(places) or int(config["n_layer"])
    blocks = places or [("architecture",)]
    top: dict[str, tuple[ConfigPath, ...]] = {
        "eps": (("final_norm", "eps"), ("layer_norm_epsilon",)),
        "tie": (("tie_word_embeddings",),),
        "embd_scale": (("embd_scale",),),
    }
    inside = {
        "theta": ("mixer", "rotary_base"),
        "eps": ("norm", "eps"),
        "activation": ("mlp", "act_fn"),
        "window": ("mixer", "window_size"),
        "rotary_dim": ("mixer", "rotary_dim"),
        "scale": ("mixer", "softmax_scale"),
        "softcap": ("mixer", "softcap"),
        "clip": ("mixer", "clip_qkv"),
        "growth": ("mixer", "query_growth", "beta"),
        "residual_scale": ("residual_scale",),
    } | {name: ("mlp", name) for name in EXPERT_DIALS}
    dials = top | {name: tuple((*at, *path) for at in blocks) + top.get(name, ()) for name, path in inside.items()}
    dials["theta"] += tuple((*at, "mixer", "rope_parameters", "rope_theta") for at in blocks)
    head_places: list[ConfigPath] = [("head",)] if places else [("architecture", "head")]
    dials |= sphere_dials(blocks, head_places)
    dials |= {name: tuple((*at, name) for at in head_places) for name in ("logit_multiplier", "logit_softcap")}
    heads = (n_head * head_dim, n_head_kv * head_dim)
    parts = _mixformer_parts(n_layer, heads, n_inner if mlp.get("mlp_cls") in GLUS else None)
    found = _present(chain(parts, sphere_parts(n_layer, n_inner, mlp, head), expert_parts(n_layer)), keys)
    return Anatomy(n_layer, n_head, n_head_kv, head_dim, found, _dials(config, dials))


def _mixformer_parts(n_layer: int, heads: tuple[int, int], glu: int | None) -> Iterator[tuple[str, Part]]:
    """Wqkv is all queries, all keys, all values; a GLU's fc1 is up (not activated), then gate (activated)."""
    yield "embed", Part("layers.0.wte.weight")
    yield "positions", Part("layers.0.wpe.weight")
    for kind, end in (("", "weight"), ("_bias", "bias")):
        yield f"embed_norm{kind}", Part(f"layers.0.ln.{end}")
        yield f"final_norm{kind}", Part(f"layers.{n_layer + 1}.ln.{end}")
        yield f"head{kind}", Part(f"layers.{n_layer + 1}.linear.{end}")
        for i in range(n_layer):
            block = f"layers.{i + 1}"
            for role, name in NORM_KEYS:
                yield f"{i}.{role}{kind}", Part(f"{block}.{name}.{end}")
            for name in ("attn", "mixer"):
                yield from _attention_parts(f"{i}.", kind, f"{block}.{name}", end, heads)
            for name in ("mlp", "mlp.mlp"):
                yield from _mlp_parts(f"{i}.", kind, f"{block}.{name}", end, glu)


def _attention_parts(
    layer: str, kind: str, prefix: str, end: str, heads: tuple[int, int]
) -> Iterator[tuple[str, Part]]:
    q, kv = heads
    yield f"{layer}q{kind}", Part(f"{prefix}.Wqkv.{end}", 0, q)
    yield f"{layer}k{kind}", Part(f"{prefix}.Wqkv.{end}", q, kv)
    yield f"{layer}v{kind}", Part(f"{prefix}.Wqkv.{end}", q + kv, kv)
    yield f"{layer}o{kind}", Part(f"{prefix}.out_proj.{end}")
    yield f"{layer}q_norm{kind}", Part(f"{prefix}.q_norm.{end}")
    yield f"{layer}k_norm{kind}", Part(f"{prefix}.k_norm.{end}")


def _mlp_parts(layer: str, kind: str, prefix: str, end: str, glu: int | None) -> Iterator[tuple[str, Part]]:
    if glu is None:
        for name in ("alpha_p", "alpha_n", "beta", "eps") if not kind else ():
            yield f"{layer}act_{name}", Part(f"{prefix}.act.{name}")
        yield f"{layer}fc1{kind}", Part(f"{prefix}.fc1.{end}")
        yield f"{layer}fc2{kind}", Part(f"{prefix}.fc2.{end}")
        return
    yield f"{layer}up{kind}", Part(f"{prefix}.fc1.{end}", 0, glu)
    yield f"{layer}gate{kind}", Part(f"{prefix}.fc1.{end}", glu, glu)
    yield f"{layer}down{kind}", Part(f"{prefix}.fc2.{end}")
