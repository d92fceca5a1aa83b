"""nanoGPT: a GPT-2 with exact GELU, matrices as (outputs, inputs), and biases as an option.

Source: nanoGPT at 3adf61e, `model.py`. A model without biases has none in its MLP either, but ours always has them
there: they are zero, which is the same function, and are removed on the way back. Head and embedding are one tensor,
stored under both names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from converters.algebra.moves import Tie
from converters.algebra.views import Then
from converters.config.entries import Field, Ours, Theirs, Written
from converters.config.kinds import FRACTION
from converters.config.layout import dims_of
from converters.config.table import ConfigTable, residue_of
from converters.families.shared.absent_biases import BiasFlag, has_biases, zero_in_ours
from converters.families.shared.causal_masks import CausalMask
from converters.families.shared.dialect_fields import IDS, Implied, Unsaid, dialect, even_heads, gpt2_block, sizes
from converters.families.shared.transformers_fields import MIXER, MLP, NORM
from converters.families.shared.transformers_rules import VOCAB, linear, mlp_of, norm
from converters.family import Family, Rule
from converters.plan.heads import TIE, head_of

BLOCK, EMBEDDING, HEAD = "transformer.h.{i}.", "transformer.wte.weight", "lm_head.weight"
MLP_BIASES = (("fc1", "n_inner"), ("fc2", "n_embd"))


CONFIG = ConfigTable(
    called="nanoGPT",
    entries=(
        *dialect("nanogpt"),
        *gpt2_block(bias=None),
        *sizes("n_embd", "n_layer", "n_head", "block_size", 1024),
        even_heads("n_embd", "n_head", rotating=False),
        Implied((MLP + "n_inner",), (("n_embd", "n_embd"),), lambda width: 4 * width, "4 n_embd", ("n_inner",)),
        BiasFlag("bias"),
        Ours(TIE, (True,)),
        Theirs(TIE, (True,), "nanoGPT's head and embedding are one tensor; these differ", written=False),
        Ours(MLP + "act_fn", ("gelu",)),
        Written("activation_function", "gelu"),
        Ours(NORM + "eps", (1e-5,)),
        Written("layer_norm_epsilon", 1e-5),
        Field("dropout", ("embd_pdrop", "resid_pdrop", MIXER + "dropout"), FRACTION, 0.0),
        Unsaid(IDS),
    ),
    free=frozenset({"iter_num", "best_val_loss", "config"}),
)


def rules(ours: Mapping[str, Any]) -> Sequence[Rule]:
    """The tensors of a nanoGPT, by our resolved config."""
    bias, mlp = has_biases(ours), mlp_of(ours)
    both = head_of(ours).kind == "redundant" or not residue_of(ours, "nanogpt")
    return [
        Rule(("transformer.wpe.weight",), ("layers.0.wpe.weight",)),
        *norm(BLOCK + "ln_1", "layers.{b}.ln_1", ours),
        *norm(BLOCK + "ln_2", "layers.{b}.ln_2", ours),
        *linear([BLOCK + "attn.c_attn"], "attn.Wqkv", bias),
        *linear([BLOCK + "attn.c_proj"], "attn.out_proj", bias),
        *linear([BLOCK + "mlp.c_fc"], f"{mlp}.fc1", bias),
        *linear([BLOCK + "mlp.c_proj"], f"{mlp}.fc2", bias),
        *([] if bias else [zero_in_ours(ours, f"layers.{{b}}.{mlp}.{fc}.bias", size) for fc, size in MLP_BIASES]),
        *norm("transformer.ln_f", "layers.{h}.ln", ours),
        Rule((EMBEDDING, HEAD), ("layers.0.wte.weight",), Then((Tie(), VOCAB)))
        if both
        else Rule((EMBEDDING,), ("layers.0.wte.weight",), VOCAB),
    ]


FAMILY = Family(
    name="nanogpt",
    title="GPT-2 as nanoGPT stores it: ckpt.pt",
    model_types=("nanogpt",),
    config=CONFIG,
    rules=rules,
    dims=dims_of,
    head=HEAD,
    tied=True,
    buffers=(CausalMask(".attn.bias"),),
    expresses="MHA; exact GELU; with or without biases; tied; written back with --format native",
    dialect_of="gpt2",
)
