"""nGPT of evintunador/nGPT: model.pth and the model_config.json beside it.

Rates have signs, and the stream joins a branch as it is. Scales are stored with two axes. `s_z` scales the logits of
the loss alone: the model returns logits without it, and so does ours, which carries it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.flatten import Flatten
from converters.algebra.views import Each, Then
from converters.config.entries import Field, Ours
from converters.config.kinds import POSITIVE, POSITIVE_INT
from converters.config.layout import SOURCE_VOCAB, dims_of
from converters.config.table import ConfigTable
from converters.errors import ConfigRefused
from converters.families.shared.dialect_fields import IDS, Unsaid, dialect, even_heads
from converters.families.shared.dialects.hidden_mult import MULT, HiddenMult
from converters.families.shared.inv_freq import inv_freq
from converters.families.shared.ngpt_fields import (
    ATTN_ALPHA,
    LOGIT_SCALE,
    MLP_ALPHA,
    OWN_HEAD,
    QK_SCALE,
    SIGNED,
    STREAM_AS_IT_IS,
    WholePairs,
    head_width,
    interpolated,
    inverse_root,
    normalised,
    plain_parts,
    root_of,
    told_sizes,
)
from converters.families.shared.transformers_fields import MIXER, NORM
from converters.families.shared.transformers_rules import QKV, UP_GATE, VOCAB, linear, vocabulary
from converters.family import Family, Rule, Sample
from converters.plan.known_buffers import Table

NAME = "ngpt-evintunador"
LAYER, EMBEDDING = "layers.{i}.", "token_embedder.weight"
OWN = ("attn.s_qk.s", "attn.Wq.weight", "alpha_A.s")
INITS = {ATTN_ALPHA: 0.05, MLP_ALPHA: 0.05, QK_SCALE: 1.0, LOGIT_SCALE: 1.0}  # times sqrt(dim)
WIDTHS = (("dim", "n_embd"), ("num_heads", MIXER + "n_head"))


CONFIG = ConfigTable(
    entries=(
        *dialect(NAME, "vocab_len"),
        *plain_parts(),
        *normalised(root_of(MIXER + "softmax_scale", WIDTHS, head_width, "dim / num_heads")),
        *interpolated(INITS, width="dim"),
        inverse_root((f"{path}.scaling" for path in INITS), "dim"),
        Ours(f"{LOGIT_SCALE}.used", (False,)),
        Ours(NORM + "eps", (1e-6,)),
        Field("dim", ("n_embd",), POSITIVE_INT),
        Field("num_layers", ("n_layer",), POSITIVE_INT),
        Field("max_seq_len", ("n_positions",), POSITIVE_INT),
        Field("theta", (MIXER + "rotary_base",), POSITIVE, 10000.0),
        Field(
            "num_heads",
            (MIXER + "n_head", MIXER + "n_head_kv"),
            POSITIVE_INT,
            also=("n_head", "n_head_kv"),
            unwritten=(MIXER + "n_head",),
        ),
        HiddenMult(),
        even_heads("dim", "num_heads", rotating=True),
        WholePairs("dim", "num_heads"),
        SIGNED,
        STREAM_AS_IT_IS,
        *OWN_HEAD,
        Unsaid(IDS),
    ),
    free=frozenset({"user_said", "device"}),
    called="the nGPT of evintunador",
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of such an nGPT, by our resolved config."""
    wide, inner = Flatten((1, "n_embd")), Flatten((1, "n_inner"))
    return [
        *linear([f"{LAYER}attn.W{name}" for name in "qkv"], "attn.Wqkv", False, QKV),
        *linear([LAYER + "attn.Wo"], "attn.out_proj", False),
        Rule((LAYER + "attn.s_qk.s",), ("layers.{b}.attn.qk_scale.weight",), Flatten(("n_head", "head_dim"))),
        *linear([LAYER + "mlp.Wup", LAYER + "mlp.Wgate"], "mlp.fc1", False, UP_GATE),
        *linear([LAYER + "mlp.Wdown"], "mlp.fc2", False),
        Rule(
            (LAYER + "mlp.s_u.s", LAYER + "mlp.s_v.s"),
            ("layers.{b}.mlp.uv_scale.weight",),
            Then((Each((inner, inner)), UP_GATE)),
        ),
        Rule((LAYER + "alpha_A.s",), ("layers.{b}.attn_alpha.weight",), wide),
        Rule((LAYER + "alpha_M.s",), ("layers.{b}.mlp_alpha.weight",), wide),
        Rule(("s_z.s",), ("layers.{h}.logit_scale.weight",), Then((Flatten((1, SOURCE_VOCAB)), VOCAB))),
        *vocabulary(ours, EMBEDDING, "output"),
    ]


def told(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any] | None:
    """Raises ConfigRefused for tensors of this dialect, whose theta only model_config.json says."""
    if told_sizes(shapes, "layers.", OWN, EMBEDDING) is None:
        return None
    raise ConfigRefused("these are tensors of evintunador's nGPT: put its model_config.json beside them")


FAMILY = Family(
    name=NAME,
    title="nGPT of evintunador: model.pth and model_config.json",
    model_types=(NAME,),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    head="output.weight",
    buffers=(Table("precompute_freqs.inv_freq", inv_freq),),
    expresses="MHA; any theta and MLP; logits without s_z, as returned; written back with --format native",
    dialect_of="ngpt",
    told=told,
    outputs=(".attn.Wo.weight", ".mlp.Wdown.weight"),
    sample=Sample(
        config={"model_type": NAME, "dim": 48, "max_seq_len": 512, "theta": 10000.0, "vocab_len": 259, "num_layers": 3}
        | {"num_heads": 8, MULT: 4, "dtype": "float32"},
        reach={"s_qk.s": (0.1, 0.19), "s_z.s": (0.1, 0.19), "s_u.s": (0.7, 1.3), "s_v.s": (0.7, 1.3)}
        | {"alpha_A.s": (0.8, 1.5), "alpha_M.s": (0.8, 1.5)},
        signed=("alpha_A.s", "alpha_M.s"),
    ),
)
