"""Single-field changes of a candidate's config.json, each sorted by what it changes before any verdict is asked.

What a change can do is measured: the changed candidate runs without golden, on lengths up to twice the trained one,
against the unchanged one. What no logit shows is a matter of generation, tokens, training or identity, unless the list
below says that it is nothing at all.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import mixformer  # noqa: F401  registers the Auto classes
from converters import convert
from converters.config.table import BASE, OURS_FREE
from converters.errors import ConversionError
from golden.errors import GoldenError
from golden.evidence.live import open_reference
from golden.evidence.prompts import reference_prompts
from golden.faults.model_copy import relink
from golden.levels.function import FLOAT64, judge_function
from golden.levels.structure import judge_structure_and_weights
from golden.models.hot import make_hot
from golden.models.loading import load_model, silenced
from golden.models.running import ModelRunner
from golden.verdict import Status, conclude

TRAINED = 24  # tokens of the context that the models say they were trained on
GONE = object()

# Changes that change nothing at all, and why.
NOTHING = {
    "transformers_version": "says which version saved the file",
    "_name_or_path": "says where the model came from",
    "_model_name_or_path": "says where the model came from",
    "_commit_hash": "says which commit the model came from",
    "phyagi_version": "says which version saved the file",
    "unsloth_version": "says which tool saved the file",
    "unsloth_fixed": "says what a tool did",
    "transformers.js_config": "is for another program, which has its own files",
    "n_inner": "the architecture's own mlp.n_inner decides",
    "n_head_kv": "the architecture's own mixer.n_head_kv decides",
    "rotary_dim": "the architecture's own mixer.rotary_dim decides",
    "activation_function": "the architecture's own mlp.act_fn decides",
    "layer_norm_epsilon": "the norm's own eps decides",
    **dict.fromkeys(
        """summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj""".split(),
        "describes a head for choices between texts, which a language model does not have",
    ),
    "max_window_layers": "layer_types decides, and without it no layer has a window here",
}
# Fields that may be left out, because their value here is the default.
DEFAULT_WHERE_GONE = {
    "dtype": "the stored dtype is taken",
    "auto_map.AutoModelForSequenceClassification": "transformers lists the class that it saved alone",
    "embd_layer": "the default embedding",
    "embd_pdrop": "no dropout",
    "resid_pdrop": "no dropout",
    "tie_word_embeddings": "not tied",
    "architectures": "the model_type says the class",
    "rope_parameters.rope_type": "default",
    "rope_parameters.rope_theta": "10000",
    "architecture.mixer.qk_norm": "off",
    "architecture.norm.eps": "1e-5",
    "architecture.mixer.dropout": "no dropout",
    "architecture.mixer.n_head_kv": "as n_head_kv at the top, or as many as heads",
    "architecture.mixer.head_dim": "n_embd over n_head",
    "architecture.mixer.rotary_dim": "all of a head, or as rotary_dim at the top",
    "architecture.mixer.rotary_base": "10000",
    "architecture.mixer.out_bias": "as the bias of queries, keys and values",
    "architecture.mixer.bias": "on",
    "architecture.mlp.n_inner": "as n_inner at the top, or four times n_embd",
    "architecture.mlp.act_fn": "as activation_function at the top",
    "architecture.head.use_bias": "on",
    "architecture.block_cls": "parallel",
    "converted_from.family": "only the way back reads it, and takes the family's defaults without it",
    "converted_from.absent": "only the way back reads it, and takes the family's defaults without it",
}
WITHOUT_A_WINDOW = ("use_sliding_window", "sliding_window")  # read of layers that layer_types gives a window alone
UNREAD = {
    "qwen2": ("attention_bias",),  # transformers' class has its biases always
    "phi3": ("original_max_position_embeddings",),  # counts with longrope, and then in the logits
}
SAID_DEFAULTS = {"architecture.mixer.causal": True, "tie_word_embeddings": False}  # added, and true anyway


@dataclass(frozen=True)
class Change:
    """A path in config.json and its new value; GONE takes the field away."""

    path: tuple[str, ...]
    value: Any

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def __str__(self) -> str:
        return f"{self.name} gone" if self.value is GONE else f"{self.name} = {json.dumps(self.value)}"

    def applied(self, config: dict[str, Any]) -> dict[str, Any]:
        changed = copy.deepcopy(config)
        place = changed
        for name in self.path[:-1]:
            place = place.setdefault(name, {})
        if self.value is GONE:
            place.pop(self.path[-1], None)
        else:
            place[self.path[-1]] = self.value
        return changed


def changes(config: dict[str, Any]) -> list[Change]:
    """Every leaf with other values and gone, and fields that could be added."""
    found = [change for path, value in leaves(config) for change in _of_leaf(path, value)]
    known = {change.name for change in found}
    ours = OURS_FREE | OURS_FIELDS if "architecture" in config else frozenset()
    for name in sorted(BASE | ours | ADDED.keys()):
        for value in ADDED.get(name, (True, 3, "x")):
            if name not in known:
                found.append(Change(tuple(name.split(".")), value))
    return [change for change in found if change.applied(config) != config]


OURS_FIELDS = frozenset(
    f"architecture.{name}"
    for name in """mixer.causal mixer.use_alibi mixer.softmax_scale mixer.window_size mixer.qk_norm mixer.softcap
    mixer.rope_scaling mixer.rotary_scale_base mixer.frobnicate norm.bias norm.frobnicate mlp.frobnicate head.frobnicate
    frobnicate cross_sample""".split()
) | {"cross_sample_token_id", "embd_layer", "embd_pdrop", "resid_pdrop", "n_head", "use_cache"}
ADDED: dict[str, tuple[Any, ...]] = {
    "frobnicate": (1, {"a": 1}),
    "rope_theta": (77.0,),
    "rope_scaling": ({"rope_type": "linear", "factor": 2.0},),
    "sliding_window": (3,),
    "layer_types": (["sliding_attention", "full_attention"],),
    "attention_bias": (True,),
    "mlp_bias": (True,),
    "tie_word_embeddings": (True, False),
    "quantization_config": ({"quant_method": "awq"},),
    "auto_map": ({"AutoModelForCausalLM": "modeling_evil.Evil"},),
    "attn_logit_softcapping": (5.0,),
    "scale_attn_weights": (False,),
    "cross_sample_token_id": (7,),
    "dtype": ("float16", "bfloat16", "float64"),
    "return_dict": (False,),
    "pruned_heads": ({"0": [0]},),
    "architecture.mixer.window_size": ([3, 0],),
    "architecture.mixer.softmax_scale": (0.5,),
    "architecture.mixer.softcap": (3.0,),
    "embd_layer": ("positional",),
    "generation_config": ({"do_sample": True},),
}


def leaves(config: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _of_leaf(path: tuple[str, ...], value: Any) -> Iterator[Change]:
    others: tuple[Any, ...] = ("x", None)
    if isinstance(value, bool):
        others = (not value, "x")
    elif isinstance(value, int):
        others = (value + 1, 2 * value + 4, "x")
    elif isinstance(value, float):
        others = (value * 1.05 + 1e-9, value * 50 + 1e-3, None)
    elif isinstance(value, str):
        others = ("gelu", "relu", "float16", "x")
    elif value is None:
        others = (1, "x", True)
    elif isinstance(value, list):
        others = ([], [*value, *value], value[:1])
    for other in (*others, GONE):
        yield Change(path, other)


class Bench:
    """A reference, its candidate, and what is needed to judge a changed config of the candidate again and again."""

    def __init__(self, reference: Path, candidate: Path) -> None:
        self.reference, self.candidate = reference, candidate
        self.config = json.loads((candidate / "config.json").read_text())
        self.evidence = open_reference(
            reference, lambda r, used: reference_prompts(reference, r.model.config, used), torch.float64
        )
        generator = torch.Generator().manual_seed(3)
        self.ids = torch.randint(0, 31, (1, 2 * TRAINED), generator=generator)
        self.logits = self._run(candidate)
        assert self.logits is not None

    def _run(self, folder: Path) -> torch.Tensor | None:
        """Logits of a folder by transformers alone; None where it cannot be loaded whole and run.

        GPT-J and CodeGen have a table of positions, which ends where the trained length does.
        """
        found = self._run_on(folder, 2 * TRAINED)
        return self._run_on(folder, TRAINED) if found is None else found

    def _run_on(self, folder: Path, length: int) -> torch.Tensor | None:
        try:
            with silenced(), torch.no_grad():
                model, info = AutoModelForCausalLM.from_pretrained(
                    folder,
                    dtype=torch.float64,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                    trust_remote_code=False,
                )
                if any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")):
                    return None
                positions = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)][1:]
                length = min([length, *(m.num_embeddings for m in positions)])
                return model.eval()(input_ids=self.ids[:, :length], use_cache=False).logits
        except Exception:
            return None

    @contextmanager
    def changed(self, change: Change) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as place:
            folder = relink(self.candidate, Path(place) / "changed", change.applied(self.config))
            for path in self.candidate.iterdir():
                if path.name not in ("config.json", "conversion.json") and not (folder / path.name).exists():
                    shutil.copy(path, folder)
            yield folder

    def kind(self, folder: Path, change: Change) -> str:
        """What a change can do: "logits", "other" or "nothing"."""
        found = self._run(folder)
        if found is None or found.shape[1:] != self.logits.shape[1:]:
            return "logits"
        if float((found - self.logits).abs().max()) > 1e-9 * float(self.logits.std()):
            return "logits"
        return "nothing" if change.path[0] in NOTHING and not _no_rate(change) else "other"

    def verdict(self, folder: Path) -> tuple[str, str]:
        """Verdict of L0 and L2, and what was said; an error is one, too."""
        try:
            levels = list(judge_structure_and_weights(folder, self.reference, frozenset({"L0"})))
            levels.append(judge_function(ModelRunner(load_model(folder, torch.float64)), self.evidence, FLOAT64))
        except (GoldenError, ConversionError) as error:
            return f"error {error.exit_code}", str(error)
        except Exception as error:  # a fault of the program
            return "crash", f"{type(error).__name__}: {error}"
        return str(conclude(levels)), "; ".join(level.detail for level in levels)


def wrong(bench: Bench, change: Change) -> str | None:
    """What is wrong about the verdict on a change, or None."""
    with bench.changed(change) as folder:
        kind = bench.kind(folder, change)
        verdict, said = bench.verdict(folder)
    told = f"{change}: {verdict}, can change {kind}: {said[:300]}"
    if kind == "logits":
        return None if verdict == str(Status.FAIL) or verdict.startswith("error") else told
    if verdict == "PASS":
        return None if kind == "nothing" or _default(bench.config, change) else told
    if kind == "nothing":
        return told
    return None if change.path[-1] in said or change.path[0] in said else f"not named: {told}"


def _no_rate(change: Change) -> bool:
    """Whether a rate of dropout is none: what cannot be one is refused, though the model does not use it."""
    return change.name == "summary_first_dropout" and isinstance(change.value, float) and not 0 <= change.value <= 1


def _default(config: dict[str, Any], change: Change) -> bool:
    """Whether the change says what is the default anyway."""
    from converters.config.neutral import says_nothing

    if change.path[-1] == "partial_rotary_factor":
        return True  # stands in two places, and is cut to a whole number of pairs: where it counts, the logits differ
    if change.value is GONE and change.path[:2] == ("converted_from", "fields"):
        return True  # as without a family: only the way back reads it, and takes the default without it
    if change.value is GONE and (change.name in DEFAULT_WHERE_GONE or _class_default(config, change)):
        return True
    if (
        change.name == "architectures"
        and isinstance(change.value, list)
        and set(change.value) <= set(config["architectures"])
    ):
        return True  # none, or the same class twice: the model_type says the class
    if change.name in UNREAD.get(str(config.get("model_type")), ()):
        return True
    if change.name in WITHOUT_A_WINDOW and "sliding_attention" not in config.get("layer_types", ["sliding_attention"]):
        return True
    if change.name in SAID_DEFAULTS and change.value is SAID_DEFAULTS[change.name]:
        return True
    before = config
    for name in change.path:
        before = before.get(name) if isinstance(before, dict) else None
    after = None if change.value is GONE else change.value
    return all(says_nothing(change.name, value) for value in (before, after))


def _class_default(config: dict[str, Any], change: Change) -> bool:
    """Whether transformers' config class fills in the value that was there, for a family of transformers."""
    if "architecture" in config or len(change.path) > 1:
        return False
    before, after = (_in_class(content) for content in (config, change.applied(config)))
    return change.name in before and before[change.name] == after.get(change.name)


def _in_class(config: dict[str, Any]) -> dict[str, Any]:
    return AutoConfig.for_model(**config).to_dict()


def pair(family: str, place: Path) -> tuple[Path, Path, Path]:
    """(theirs, ours, back): a hot model of two layers, its MixFormer, and the way back."""
    context = "n_positions" if family in ("gpt2", "gptj", "codegen") else "max_position_embeddings"
    layers = "n_layer" if context == "n_positions" else "num_hidden_layers"
    theirs = make_hot(family, place / "theirs", 0, **{context: TRAINED, layers: 2, "vocab_size": 97})
    ours = convert(theirs, output=place / "ours").output
    return theirs, ours, convert(ours, to=family, output=place / "back").output


def chosen(config: dict[str, Any], count: int | None, seed: int) -> list[Change]:
    """All changes, or a seeded slice of them."""
    found = changes(config)
    return found if count is None else random.Random(seed).sample(found, min(count, len(found)))
