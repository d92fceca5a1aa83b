"""Ministral-3: a Mistral whose queries grow with their position, by two numbers among the parameters of the rope.

Source: transformers 5.23 `models/ministral3`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.config.cannot_hold import CannotHold
from converters.config.kinds import NOT_NEGATIVE, POSITIVE_INT, same
from converters.config.layout import dims_of
from converters.config.part_layout import GROWTH
from converters.config.table import ConfigTable
from converters.errors import ConfigRefused
from converters.families.shared.hot_sizes import ROPES, WIDE
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.rope import BASE, PARAMETERS, Rope
from converters.families.shared.transformers_fields import (
    GLU,
    NO_QK_NORM,
    biases,
    heads,
    llama_decoder,
    model,
    positions,
)
from converters.families.shared.transformers_rules import llama_like
from converters.families.shared.windows import SlidingWindow
from converters.family import Family
from converters.plan.known_buffers import Table
from converters.small_models import Hot

BETA, LENGTH, LONGEST = "llama_4_scaling_beta", "original_max_position_embeddings", "max_position_embeddings"
DEFAULT = {
    "type": "yarn",
    "rope_theta": 1000000.0,
    "factor": 16.0,
    LENGTH: 16384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale_all_dim": 1.0,
    "mscale": 1.0,
    BETA: 0.1,
}


@dataclass(frozen=True)
class GrowingRope(Rope):
    """`rope_parameters`, among them `llama_4_scaling_beta` and the length after which queries grow."""

    theirs: tuple[str, ...] = ("rope_parameters",)
    ours: tuple[str, ...] = (BASE, PARAMETERS, GROWTH)

    def read(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """As `Rope`, and `query_growth`.

        Raises:
            ConfigRefused: as `Rope`; also where one of the two numbers is missing.
        """
        given = theirs.get("rope_parameters")
        said = DEFAULT if given is None else given
        if not isinstance(said, dict):
            raise ConfigRefused(f"rope_parameters is {said!r}, expected an object or null")
        for name, kind in ((BETA, NOT_NEGATIVE), (LENGTH, POSITIVE_INT)):
            if not kind.holds(said.get(name)):
                raise ConfigRefused(f"rope_parameters.{name} is {said.get(name)!r}, expected {kind.words}")
        longest, other = said.get(LONGEST), theirs.get(LONGEST, 262144)
        if longest is not None and not same(longest, other):
            raise ConfigRefused(f"{LONGEST} is {other!r} and rope_parameters.{LONGEST} {longest!r}; keep one")
        rest = {name: value for name, value in said.items() if name not in (BETA, LONGEST)}
        found = super().read({**theirs, "rope_parameters": rest, "rope_scaling": None})
        return {**found, GROWTH: {"beta": said[BETA], "length": said[LENGTH]}}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """One spelling.

        Raises:
            CannotHold: queries do not grow, or after another length than the rope's.
        """
        growth, found = ours.get(GROWTH), super().write(ours)["rope_parameters"]
        if not isinstance(growth, dict) or not same(found.get(LENGTH, growth["length"]), growth["length"]):
            raise CannotHold(f"its {GROWTH} is {growth!r}", f"a beta and the rope's {LENGTH}", GROWTH)
        return {"rope_parameters": {**found, LENGTH: growth["length"], BETA: growth["beta"]}}


CONFIG = ConfigTable(
    called="Ministral-3",
    entries=(
        *model("ministral3", "Ministral3ForCausalLM", "Ministral3Model", bos=1, eos=2, pad=11),
        *llama_decoder(least=1e-5),
        *heads(default_kv=8, head_dim=128),
        *biases(False, False),
        GLU,
        NO_QK_NORM,
        positions(262144),
        SlidingWindow(None),
        GrowingRope(),
    ),
)
_DRAWN = tuple({**rope, LENGTH: 40, BETA: beta} for rope, beta in zip(ROPES, (0.1, 0.0, 0.5, 0.2), strict=True))

FAMILY = Family(
    name="ministral3",
    title="Ministral 3, the text model",
    model_types=("ministral3",),
    config=CONFIG,
    rules=llama_like,
    dims=dims_of,
    base="model.",
    head="lm_head.weight",
    embedding="model.embed_tokens.weight",
    buffers=(Table(".rotary_emb.inv_freq", inv_freq),),
    expresses="as mistral, with queries that grow with their position",
    hot=Hot(
        "Ministral3Config",
        WIDE | {"rope_parameters": {**ROPES[3], LENGTH: 16, BETA: 0.3}},
        {"rope_parameters": _DRAWN, "sliding_window": (None, 5, 24)},
    ),
)
