"""Decoders under torchtune's names: the table of their family in transformers, and rules with other keys.

Its FullModelTorchTuneCheckpointer reads one such file, of torch or of safetensors.
torchtune keeps no config: its recipes copy the config.json that the weights came with beside them. Rotary pairs are
neighbours, as Meta has them, but in Qwen2. Source: torchtune 0.6.1, `models/convert_weights.py`,
`models/qwen2/_convert_weights.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from converters.algebra.views import Each, Move, Then
from converters.config.entries import Entry, Theirs
from converters.config.layout import dims_of
from converters.config.model_classes import Architectures
from converters.config.table import ConfigTable
from converters.families.shared.inv_freq import halves_of
from converters.families.shared.transformers_fields import MIXER
from converters.families.shared.transformers_rules import QKV, UP_GATE, linear, vocabulary
from converters.family import SAME, Family, Rule

EMBEDDING, HEAD, LAYER = "tok_embeddings.weight", "output.weight", "layers.{i}."
INTERLEAVED_QKV = Then((Each((halves_of("n_head"), halves_of("n_head_kv"), SAME)), QKV))
SCALES = (
    (LAYER + "sa_norm.scale", "layers.{b}.ln_1.weight"),
    (LAYER + "mlp_norm.scale", "layers.{b}.ln_2.weight"),
    ("norm.scale", "layers.{h}.ln.weight"),
)


def torchtune_family(
    of: str, title: str, table: ConfigTable, rules: Callable[[Mapping[str, Any]], Sequence[Rule]], expresses: str
) -> Family:
    """The dialect of the family ``of``; ``title``: its name as people write it, ``table``: that of its config."""
    name = f"{of}-torchtune"
    return Family(
        name=name,
        title=f"{title} under torchtune's names, with the config.json of transformers",
        model_types=(name,),
        config=torchtune_table(name, table),
        rules=rules,
        dims=dims_of,
        head=HEAD,
        embedding=EMBEDDING,
        expresses=expresses,
        dialect_of=of,
        safetensors=True,
    )


def torchtune_table(name: str, table: ConfigTable) -> ConfigTable:
    """The table of a family for its dialect `name`, which a config is never told to be of by its classes."""
    entries = tuple(_renamed(name, entry) for entry in table.entries)
    return replace(table, entries=entries, called=f"{table.called} in torchtune")


def _renamed(name: str, entry: Entry) -> Entry:
    if isinstance(entry, Architectures):
        return replace(entry, borrowed=tuple(one for names in entry.values for one in names or ()))
    return replace(entry, values=(name,)) if isinstance(entry, Theirs) and entry.name == "model_type" else entry


def torchtune_rules(ours: Mapping[str, Any], qkv: Move = INTERLEAVED_QKV) -> list[Rule]:
    """The rules by our resolved config; `qkv`: the move of q, k and v, of their biases too."""
    return [
        *(Rule((theirs,), (mine,)) for theirs, mine in SCALES),
        *linear([f"{LAYER}attn.{name}_proj" for name in "qkv"], "attn.Wqkv", ours[MIXER + "bias"], qkv),
        *linear([LAYER + "attn.output_proj"], "attn.out_proj", False),
        *linear([f"{LAYER}mlp.{name}" for name in ("w3", "w1")], "mlp.fc1", False, UP_GATE),
        *linear([LAYER + "mlp.w2"], "mlp.fc2", False),
        *vocabulary(ours, EMBEDDING, HEAD.removesuffix(".weight")),
    ]
