"""Groups of config entries that several families of transformers share."""

from collections.abc import Mapping
from typing import Any

from converters.config.entries import Entry, Field, Ours, Theirs, Written
from converters.config.harmless import harmless_fields
from converters.config.kinds import BOOL, DTYPE, FRACTION, NOT_NEGATIVE, POSITIVE_INT, TOKEN, TOKENS
from converters.config.layout import SOURCE_VOCAB
from converters.config.model_classes import Architectures, AutoMap
from converters.families.shared.activations import ACTIVATIONS
from converters.families.shared.refusals import EXPERTS, REFUSED

KV = "num_key_value_heads"
MIXER, NORM, MLP, HEAD = "architecture.mixer.", "architecture.norm.", "architecture.mlp.", "architecture.head."
NO_WINDOW = Ours(MIXER + "window_size", (None, [-1, -1], "(-1, -1)"))
PLAIN_SCALE = Ours(MIXER + "softmax_scale", (None,), written=False)
SAME_SCALE = Ours(MIXER + "scale_attn_by_inverse_layer_idx", (False,), written=False)
NO_QK_NORM = Ours(MIXER + "qk_norm", (False,), written=False)
PLAIN_MLP = Ours(MLP + "mlp_cls", ("mlp", "fused_mlp"))
GLU = Ours(MLP + "mlp_cls", ("glu",))
RMS_NORM = Ours(NORM + "norm_cls", ("rms", "flash_rms"))
LAYER_NORM = Ours(NORM + "norm_cls", ("torch", "low_precision"))
ATTENTION_DROPOUT = Field("attention_dropout", (MIXER + "dropout",), FRACTION, 0.0)
NO_DROPOUT = (Ours("embd_pdrop", (0.0,)), Ours("resid_pdrop", (0.0,)))
NO_TOKEN = ((-1, None),)  # LLaMA's first tokenizer says so; ids begin at 0
DTYPE_WORDS = (
    ("auto", None),  # whatever the weights are
    ("half", "float16"),
    ("float", "float32"),
    ("double", "float64"),
    *((f"torch.{name}", name) for name in ("float64", "float32", "float16", "bfloat16")),
)


def block(kind: str, embedding: str = "default", *, head_bias: bool = False) -> tuple[Entry, ...]:
    """The architecture: `sequential` or `parallel` blocks, the embedding, and the output head."""
    return (
        Ours("architecture.block_cls", (kind,)),
        Ours("embd_layer", (embedding,)),
        Ours(HEAD + "head_cls", ("causal_lm",)),
        Ours(HEAD + "use_bias", (head_bias,)),
    )


def biases(attention: bool, out: bool) -> tuple[Entry, ...]:
    """Biases of attention that are fixed."""
    return Ours(MIXER + "bias", (attention,)), Ours(MIXER + "out_bias", (out,))


def model(
    model_type: str,
    causal: str,
    bare: str,
    *,
    tied: bool = False,
    bos: Any,
    eos: Any,
    pad: Any = None,
    beside: tuple[str, ...] = (),
    borrowed: tuple[str, ...] = (),
    capped: bool = False,
    initializer: float = 0.02,
    alibi: bool = False,
    experts: bool = False,
) -> tuple[Entry, ...]:
    """What every causal language model of transformers has.

    causal, bare: its classes with and without a head. tied, bos, eos, pad, initializer: defaults of its config class.
    beside: classes that have another head too. borrowed: classes of another family that run its models. capped: the
    table has an entry of its own for the cap on scores. alibi: scores are biased by distance. experts: it is a mixture
    of them.
    """
    return (
        Theirs("model_type", (model_type,)),
        Architectures("architectures", ([causal], [bare], None), beside=beside, borrowed=borrowed),
        AutoMap("auto_map", (None,), written=False, module=model_type, classes=(_config_of(bare), causal, bare)),
        Written("pad_vocab_size_multiple", 1),
        Ours(MIXER + "mixer_cls", ("mha",)),
        Ours(MIXER + "causal", (True,), written=False),
        Ours(MIXER + "use_alibi", (alibi,), written=alibi),
        *(() if capped else (Ours(MIXER + "softcap", (0.0,), written=False),)),
        Ours(MIXER + "rotary_scale_base", (None,), written=False),
        Ours(MIXER + "rope_scaling", (None,), written=False),
        Field("vocab_size", (SOURCE_VOCAB,), POSITIVE_INT, also=("vocab_size",), unwritten=(SOURCE_VOCAB,)),
        Field("tie_word_embeddings", ("tie_word_embeddings",), BOOL, tied),
        Field("initializer_range", ("initializer_range",), NOT_NEGATIVE, initializer),
        Field("use_cache", ("use_cache",), BOOL, True),
        Field("bos_token_id", ("bos_token_id",), TOKEN, bos, synonyms=NO_TOKEN),
        Field("eos_token_id", ("eos_token_id",), TOKENS, eos, synonyms=NO_TOKEN),
        Field("pad_token_id", ("pad_token_id",), TOKEN, pad, synonyms=NO_TOKEN),
        Field("dtype", ("dtype",), DTYPE, None, aliases=("torch_dtype",), synonyms=DTYPE_WORDS),
        *harmless_fields(model_type),
        *(entry for entry in REFUSED if not experts or entry.name not in EXPERTS),
    )


def _config_of(bare: str) -> str:
    """The config class that goes with a model class of transformers."""
    return bare.removesuffix("Model") + "Config"


def heads(default_kv: int | None = None, head_dim: int | None = None, *, whole: bool = True) -> tuple[Entry, ...]:
    """Sizes under LLaMA's names. `whole`: all of a head rotates, so that head_dim is rotary_dim too.

    default_kv, head_dim: of the config class, None for those that follow from the number of heads. Null in theirs
    means as many key-value heads as heads, whatever the default.
    """
    rotary = (MIXER + "rotary_dim",) if whole else ()
    return (
        Field("hidden_size", ("n_embd",), POSITIVE_INT),
        Field("num_hidden_layers", ("n_layer",), POSITIVE_INT),
        Field(
            "num_attention_heads", (MIXER + "n_head",), POSITIVE_INT, also=("n_head",), unwritten=(MIXER + "n_head",)
        ),
        Field(
            KV,
            (MIXER + "n_head_kv",),
            POSITIVE_INT,
            lambda theirs: theirs["num_attention_heads"] if KV in theirs or default_kv is None else default_kv,
            none=True,
            also=("n_head_kv",),
        ),
        Field(
            "head_dim",
            (MIXER + "head_dim", *rotary),
            POSITIVE_INT,
            lambda theirs: head_dim or head_dim_of(theirs),
            none=True,
            also=("rotary_dim",) if whole else (),
        ),
    )


def head_dim_of(theirs: Mapping[str, Any], default: int | None = None) -> Any:
    """The width of a head: its field, or what transformers computes without one; `default`: of its config class."""
    said = theirs.get("head_dim", default)
    return theirs["hidden_size"] // theirs["num_attention_heads"] if said is None else said


def mlp(act: str, name: str = "hidden_act") -> tuple[Entry, ...]:
    """Width and activation under LLaMA's names; `act` is the default, `name` another name of the field."""
    return inner_width(), Field(name, (MLP + "act_fn",), ACTIVATIONS, act, also=("activation_function",))


def inner_width() -> Entry:
    """The width of the MLP under LLaMA's name."""
    return Field("intermediate_size", (MLP + "n_inner",), POSITIVE_INT, also=("n_inner",))


def positions(default: int) -> Entry:
    """The longest sequence under LLaMA's name."""
    return Field("max_position_embeddings", ("n_positions",), POSITIVE_INT, default)


def eps(name: str, default: float) -> Entry:
    """The eps of all norms."""
    return Field(name, (NORM + "eps",), NOT_NEGATIVE, default, also=("layer_norm_epsilon",))


def dropouts() -> tuple[Entry, ...]:
    """Dropouts of embeddings and residuals, whose names are the same on both sides."""
    return Field("embd_pdrop", ("embd_pdrop",), FRACTION, 0.0), Field("resid_pdrop", ("resid_pdrop",), FRACTION, 0.0)


def llama_decoder(act: str = "silu", least: float = 1e-6) -> tuple[Entry, ...]:
    """What LLaMA and families like it share: sequential blocks, RMS norms, SiLU, dropout in attention only.

    act, least: the activation and the eps of norms where theirs says none.
    """
    return (
        *block("sequential"),
        *mlp(act),
        *NO_DROPOUT,
        RMS_NORM,
        PLAIN_SCALE,
        SAME_SCALE,
        ATTENTION_DROPOUT,
        eps("rms_norm_eps", least),
    )
