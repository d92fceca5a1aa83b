"""What dialects of nGPT share: config entries of a normalised transformer and of its learned scales.

A learned scale is a vector w that is used as w * (init / scaling) and begins at `scaling`. Ours keeps it as it is
stored, and says both numbers; so nothing is folded and nothing is lost.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from converters.config.entries import Entry, Field, Ours, Theirs, Written
from converters.config.kinds import POSITIVE_INT
from converters.errors import ConfigRefused
from converters.families.shared.dialect_fields import IDS, Implied, Unsaid, dialect, even_heads
from converters.families.shared.dialects.ngpt_entries import Either as Either
from converters.families.shared.dialects.ngpt_entries import Idle as Idle
from converters.families.shared.dialects.ngpt_entries import Switch as Switch
from converters.families.shared.dialects.ngpt_entries import WholePairs as WholePairs
from converters.families.shared.rope import PARAMETERS
from converters.families.shared.transformers_fields import HEAD, MIXER, MLP, NO_DROPOUT, NO_QK_NORM, SAME_SCALE
from converters.plan.heads import TIE

BLOCK, RESIDUAL = "architecture.block_cls", "architecture.residual"
ATTN_ALPHA, MLP_ALPHA = "architecture.attn_alpha", "architecture.mlp_alpha"
QK_SCALE, UV_SCALE, LOGIT_SCALE = MIXER + "qk_scale", MLP + "uv_scale", HEAD + "logit_scale"
WIDTH_AND_HEADS = (("n_embd", "n_embd"), ("n_head", MIXER + "n_head"))
STREAM_AS_IT_IS, SIGNED = Ours("architecture.normalize_stream", (False,)), Ours("architecture.signed_rates", (True,))
OWN_HEAD = (
    Ours(TIE, (False,)),
    Theirs(TIE, (False,), "an nGPT has a head of its own, and this one is stored without", written=False),
)


def scale(path: str, init: float, scaling: float) -> tuple[Entry, ...]:
    """A learned scale with two fixed numbers."""
    return Ours(f"{path}.init", (init,)), Ours(f"{path}.scaling", (scaling,))


def root_of(path: str, sizes: tuple[tuple[str, str], ...], of: Callable[..., int | None], words: str) -> Implied:
    """A number that is the square root of a size."""

    def root(*given: int) -> float | None:
        size = of(*given)
        return None if size is None else size**0.5

    return Implied((path,), sizes, root, f"the square root of {words}")


def inverse_root(paths: Iterable[str], width: str = "n_embd", power: float = 0.5) -> Implied:
    """Where tensors of scales begin: 1 / sqrt(width), or 1 / width with `power` 1."""
    words = "sqrt(width)" if power == 0.5 else "width"
    return Implied(
        tuple(paths), ((width, "n_embd"),), lambda size: 1.0 / size**power, f"1 / {words}, the width being {width}"
    )


def head_width(width: int, heads: int) -> int | None:
    """The width of a head; None where heads do not share the width evenly."""
    return None if width % heads else width // heads


ROOT_OF_HEAD = root_of(MIXER + "softmax_scale", WIDTH_AND_HEADS, head_width, "n_embd / n_head")
ROOT_OF_WIDTH = root_of(f"{UV_SCALE}.init", (("n_embd", "n_embd"),), int, "n_embd")


def normalised(score: Entry = ROOT_OF_HEAD) -> tuple[Entry, ...]:
    """The block of a normalised transformer: no norm but that to length 1, of the stream and of queries and keys.

    score: what scores are multiplied with.
    """
    return (
        Ours("architecture.norm.norm_cls", ("l2",)),
        Ours(MIXER + "qk_l2_norm", (True,)),
        Ours(MLP + "mlp_cls", ("glu_scaled",)),
        Ours(HEAD + "use_norm", (False,)),
        score,
        Unsaid(("layer_norm_epsilon",)),
    )


def interpolated(inits: Mapping[str, float], *, bias: bool = False, width: str = "n_embd") -> tuple[Entry, ...]:
    """A normalised block whose branches are interpolated, with an MLP whose gate begins at sqrt(width).

    inits: scales and where their effective values begin; of the MLP's, the half that is not the gate begins at 1.
    width: their name of it.
    """
    return (
        Ours(BLOCK, ("ngpt",)),
        Ours(RESIDUAL, ("lerp",)),
        *(Ours(f"{path}.init", (init,)) for path, init in inits.items()),
        *scale(UV_SCALE, 1.0, 1.0),
        root_of(MLP + "gate_init", ((width, "n_embd"),), int, width),
        *(Ours(MIXER + name, (bias,)) for name in ("bias", "out_bias")),
        Ours(MLP + "bias", (bias,)),
    )


def plain_parts(embedding: str | None = "default", *, head_bias: bool = False) -> tuple[Entry, ...]:
    """What no dialect has, and the head and the activation of all. embedding: None where another entry says it."""
    return (
        *((Ours("embd_layer", (embedding,)),) if embedding else ()),
        Ours(HEAD + "head_cls", ("causal_lm",)),
        Ours(HEAD + "use_bias", (head_bias,)),
        *NO_DROPOUT,
        Ours(MIXER + "dropout", (0.0,), written=False),
        Ours(MIXER + "window_size", (None, [-1, -1], "(-1, -1)"), written=False),
        SAME_SCALE,
        NO_QK_NORM,
        Ours(PARAMETERS, (None,), written=False),
        Ours(MLP + "act_fn", ("silu",)),
        Written("activation_function", "silu"),
    )


def flat_sizes(positions: int = 2048) -> tuple[Entry, ...]:
    """Sizes of dialects whose files hold tensors alone, under our names; `positions`: of no effect in ours."""
    n_head, n_kv = MIXER + "n_head", MIXER + "n_head_kv"
    return (
        Field("n_embd", ("n_embd",), POSITIVE_INT),
        Field("n_layer", ("n_layer",), POSITIVE_INT),
        Field("n_head", (n_head, n_kv), POSITIVE_INT, also=("n_head", "n_head_kv"), unwritten=(n_head,)),
        Field("n_inner", (MLP + "n_inner",), POSITIVE_INT, also=("n_inner",)),
        Ours(MIXER + "rotary_base", (10000.0,)),
        Written("n_positions", positions),
        Unsaid(IDS),
    )


WHOLE_HEADS = (even_heads("n_embd", "n_head", rotating=True), WholePairs())
ONE_OVER_LAYERS = Implied(
    tuple(f"{path}.init" for path in (ATTN_ALPHA, MLP_ALPHA)),
    (("n_layer", "n_layer"),),
    lambda n: 1.0 / n,
    "1 / n_layer",
)


def ngpt(model_type: str, *, formula: str, head_bias: bool) -> tuple[Entry, ...]:
    """What the first two dialects have. formula: by which the float32 frequencies of the rotary embedding are made."""
    n_head, n_kv = MIXER + "n_head", MIXER + "n_head_kv"
    return (
        *dialect(model_type),
        *plain_parts(head_bias=head_bias),
        Field("n_embd", ("n_embd",), POSITIVE_INT),
        Field("n_layer", ("n_layer",), POSITIVE_INT),
        Field("n_head", (n_head, n_kv), POSITIVE_INT, also=("n_head", "n_head_kv"), unwritten=(n_head,)),
        even_heads("n_embd", "n_head", rotating=True),
        WholePairs(),
        Ours(MIXER + "rotary_base", (10000.0,)),
        Ours(MIXER + "rotary_formula", (formula,)),
        Implied((MLP + "n_inner",), (("n_embd", "n_embd"),), lambda width: 4 * width, "4 n_embd", ("n_inner",)),
        *OWN_HEAD,
        Unsaid(IDS),
    )


def told_sizes(
    shapes: Mapping[str, tuple[int, ...]], layers: str, own: tuple[str, ...], embedding: str
) -> dict[str, Any] | None:
    """Width and vocabulary as the embedding says them, depth as the keys of layers do; None for another dialect.

    layers: what their keys begin with, before the number of the layer. own: rests of keys behind that number,
    of which there has to be one.

    Raises:
        ConfigRefused: there is no embedding with two axes.
    """
    pattern = re.compile(re.escape(layers) + r"(\d{1,9})\.(.*)")
    found = [int(number[1]) for key in shapes if (number := pattern.fullmatch(key)) and number[2] in own]
    if not found:
        return None
    shape = shapes.get(embedding, ())
    if len(shape) != 2:
        said = f"has the shape {list(shape)}" if embedding in shapes else "is missing"
        raise ConfigRefused(f"{embedding} {said}; rows and columns of it say the sizes of an nGPT")
    return {"vocab_size": shape[0], "n_embd": shape[1], "n_layer": 1 + max(found)}
