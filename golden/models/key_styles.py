"""Key names of the other families: tables of roles and keys by model_type, written from the formats.

A role stands for a whole tensor or for rows of one. `Conv1D` stores matrices as (inputs, outputs), so there a role
stands for columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Rows = tuple[str, ...]  # names of sizes: the part begins after all but the last, and the last is its length


@dataclass(frozen=True)
class Style:
    """Key names of one family. Keys end in `.weight` or `.bias`, those of learned scales in nothing.

    top: role -> key without its ending. layer: role -> (key without its ending under ``prefix``, rows), where no rows
    mean the whole tensor. transposed: matrices are stored as (inputs, outputs).
    """

    prefix: str
    top: Mapping[str, str]
    layer: Mapping[str, tuple[str, Rows]]
    transposed: bool = False

    def places(self, n_layer: int) -> Iterator[tuple[str, str, Rows]]:
        """(role, key without its ending, rows) of every part."""
        for role, name in self.top.items():
            yield role, name, ()
        for i in range(n_layer):
            for role, (name, rows) in self.layer.items():
                yield f"{i}.{role}", f"{self.prefix.format(i=i)}{name}", rows


def whole(names: Mapping[str, str]) -> dict[str, tuple[str, Rows]]:
    return {role: (name, ()) for role, name in names.items()}


_LLAMA_TOP = {"embed": "model.embed_tokens", "final_norm": "model.norm", "head": "lm_head"}
_GPT_TOP = {
    "embed": "transformer.wte",
    "positions": "transformer.wpe",
    "final_norm": "transformer.ln_f",
    "head": "lm_head",
}
_SEPARATE = {f"{name}": f"self_attn.{name}_proj" for name in "qkv"}
QKV_ROWS = {"q": ("q",), "k": ("q", "kv"), "v": ("q", "kv", "kv")}

LLAMA = Style(
    "model.layers.{i}.",
    _LLAMA_TOP,
    whole(
        _SEPARATE
        | {
            "o": "self_attn.o_proj",
            "q_norm": "self_attn.q_norm",
            "k_norm": "self_attn.k_norm",
            "gate": "mlp.gate_proj",
            "up": "mlp.up_proj",
            "down": "mlp.down_proj",
            "norm_1": "input_layernorm",
            "norm_2": "post_attention_layernorm",
        }
    ),
)
PHI = Style(
    "model.layers.{i}.",
    _LLAMA_TOP | {"final_norm": "model.final_layernorm"},
    whole(
        _SEPARATE
        | {
            "o": "self_attn.dense",
            "q_norm": "self_attn.q_layernorm",
            "k_norm": "self_attn.k_layernorm",
            "fc1": "mlp.fc1",
            "fc2": "mlp.fc2",
            "norm_1": "input_layernorm",
        }
    ),
)
PHI3 = Style(
    "model.layers.{i}.",
    _LLAMA_TOP,
    {role: ("self_attn.qkv_proj", rows) for role, rows in QKV_ROWS.items()}
    | {"gate": ("mlp.gate_up_proj", ("inner",)), "up": ("mlp.gate_up_proj", ("inner", "inner"))}
    | whole(
        {
            "o": "self_attn.o_proj",
            "down": "mlp.down_proj",
            "norm_1": "input_layernorm",
            "norm_2": "post_attention_layernorm",
        }
    ),
)
GPT2 = Style(
    "transformer.h.{i}.",
    _GPT_TOP,
    {role: ("attn.c_attn", rows) for role, rows in QKV_ROWS.items()}
    | whole({"o": "attn.c_proj", "fc1": "mlp.c_fc", "fc2": "mlp.c_proj", "norm_1": "ln_1", "norm_2": "ln_2"}),
    transposed=True,
)
_GPTJ_LAYER = {"o": "attn.out_proj", "fc1": "mlp.fc_in", "fc2": "mlp.fc_out", "norm_1": "ln_1"}
GPTJ = Style("transformer.h.{i}.", _GPT_TOP, whole({f"{n}": f"attn.{n}_proj" for n in "qkv"} | _GPTJ_LAYER))
# The rows of qkv_proj lie in four shards, so the rows of q, k or v are not contiguous.
CODEGEN = Style("transformer.h.{i}.", _GPT_TOP, whole({"qkv": "attn.qkv_proj"} | _GPTJ_LAYER))

UP_AND_GATE = {"up": ("inner",), "gate": ("inner", "inner")}
NVIDIA = Style(
    "transformer.h.{i}.",
    {"embed": "transformer.wte", "final_norm": "rmsnorm_f", "head": "lm_head", "logit_scale": "sz"},
    whole(
        {
            "q": "query",
            "k": "key",
            "v": "value",
            "o": "att_c_proj",
            "down": "mlp_c_proj",
            "norm_1": "rmsnorm_att",
            "norm_2": "rmsnorm_mlp",
            "qk_scale": "sqk",
            "attn_alpha": "attn_alpha",
            "mlp_alpha": "mlp_alpha",
        }
    )
    | {role: ("c_fc", rows) for role, rows in UP_AND_GATE.items()}
    | {f"{role}_scale": ("suv", rows) for role, rows in UP_AND_GATE.items()},
)
TUTORIAL = Style(
    "decoders.{i}.",
    {"embed": "embedding_layer", "head": "outlayer"},
    whole(
        {name: f"atten.{name}" for name in "qkvo"}
        | {"qk_scale": "atten.S_qk", "idle_scale": "mlp.S_uv", "down": "mlp.fc2"}
        | {"attn_alpha": "lr_atten", "mlp_alpha": "lr_mlp"}
    )
    | {role: ("mlp.fc1", rows) for role, rows in UP_AND_GATE.items()},
)


def _llama_but(**names: str) -> Style:
    """LLaMA's names, but for these."""
    return Style(LLAMA.prefix, _LLAMA_TOP, dict(LLAMA.layer) | whole(names))


def _plain_mlp(**names: str) -> Style:
    """LLaMA's names with a plain MLP, and but for these."""
    kept = {role: place for role, place in LLAMA.layer.items() if role not in ("gate", "up", "down")}
    mlp = {"fc1": "mlp.up_proj", "fc2": "mlp.down_proj"}
    learned = {f"act_{name}": f"mlp.act_fn.{name}" for name in ("alpha_p", "alpha_n", "beta", "eps")}
    return Style(LLAMA.prefix, _LLAMA_TOP, kept | whole(mlp | learned | names))


_AFTER = {"after_1": "post_attention_layernorm", "after_2": "post_feedforward_layernorm"}
_GEMMA = _llama_but(norm_2="pre_feedforward_layernorm", **_AFTER)
_GATE_UP = {"gate": ("mlp.gate_up_proj", ("inner",)), "up": ("mlp.gate_up_proj", ("inner", "inner"))}
_GLM4_NORMS = {"after_1": "post_self_attn_layernorm", "after_2": "post_mlp_layernorm"}

STYLES: Mapping[str, Style] = {
    "phi": PHI,
    "phi3": PHI3,
    "gpt2": GPT2,
    "gptj": GPTJ,
    "codegen": CODEGEN,
    "ngpt-nvidia": NVIDIA,
    "ngpt-tutorial": TUTORIAL,
    **dict.fromkeys(("gemma2", "gemma3_text"), _GEMMA),
    **dict.fromkeys(("olmo2", "exaone4"), _GEMMA),
    "glm": Style(LLAMA.prefix, _LLAMA_TOP, dict(LLAMA.layer) | _GATE_UP),
    "glm4": Style(LLAMA.prefix, _LLAMA_TOP, dict(LLAMA.layer) | _GATE_UP | whole(_GLM4_NORMS)),
    **dict.fromkeys(("arcee", "nemotron"), _plain_mlp()),
    "apertus": _plain_mlp(norm_1="attention_layernorm", norm_2="feedforward_layernorm"),
    "starcoder2": _plain_mlp(fc1="mlp.c_fc", fc2="mlp.c_proj"),
}
"""By model_type. Any other model_type has the names of LLaMA."""
