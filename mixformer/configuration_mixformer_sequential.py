"""`MixFormerSequentialConfig`: sizes, vocabulary, and the `architecture` that says which modules are built."""

from __future__ import annotations

import copy
import math
from dataclasses import is_dataclass
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from mixformer.architecture import Architecture, is_first_generation, merged, normal_form
from mixformer.errors import ArchitectureTypeError, ConfigurationError, invalid
from mixformer.generations import PHI_MSFT, as_current_generation

MIXFORMER_SEQUENTIAL_MODEL_TYPE = "mixformer-sequential"
# The first two generations rotated 32 dimensions where the configuration said nothing; this one rotates whole heads.
FIRST_GENERATIONS_ROTARY_DIM = 32


class MixFormerSequentialConfig(PreTrainedConfig):
    """Configuration of a MixFormer.

    Args:
        vocab_size: Rows of the embedding; stored rounded up to a multiple of `pad_vocab_size_multiple`.
        n_positions: Longest sequence the model is made for; the number of rows of a positional embedding.
        n_embd: Width of the residual stream.
        n_layer: Number of blocks; a list architecture sets it when a model is built.
        n_inner: Width of the MLPs, None for 4 * n_embd.
        n_head: Query heads.
        n_head_kv: Key-value heads, None for n_head.
        rotary_dim: Dimensions of a head that rotate; None or 0 for n_embd // n_head, which then stands here.
        activation_function: A name in transformers' ACT2FN.
        embd_layer: A name in `EMBEDDINGS`.
        embd_scale: Ours. What embeddings are multiplied by, with embd_layer "scaled" and "scaled_table" alone.
        architecture: A dict (every block alike), a list of dicts (one per block) or None for the default dict.
        head, loss, final_norm: Only with a list architecture, which has no other place for them.
        embd_pdrop, resid_pdrop: Dropout of the embedding and of the branches of a block.
        layer_norm_epsilon: Epsilon of the final norm of a list architecture without `final_norm`. Everywhere else the
            epsilon is `norm.eps` (1e-5 if absent), as it is in the SDK.
        initializer_range: Standard deviation of linear and embedding weights at initialisation.
        pad_vocab_size_multiple: See vocab_size; 1 turns padding off.
        gradient_checkpointing: Recompute activations in the backward pass.
        cross_sample_token_id: Token that ends a sample; attention does not cross it.
        cp_size, tp_size: Degrees of parallelism recorded by the SDK. The function does not depend on them.
        use_cache: Whether a forward pass outside training returns a cache.

    Raises:
        ConfigurationError: naming the path, what was found and what was expected.
    """

    model_type = MIXFORMER_SEQUENTIAL_MODEL_TYPE
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "max_position_embeddings": "n_positions",
        "n_ctx": "n_positions",
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
        "cross_sample_sep": "cross_sample_token_id",
        # Names of the first generation.
        "input_emb_layer": "embd_layer",
        "blocks": "architecture",
    }

    vocab_size: int = 50304
    n_positions: int = 2048
    n_embd: int = 1024
    n_layer: int = 20
    n_inner: int | None = None
    n_head: int = 16
    n_head_kv: int | None = None
    rotary_dim: int | None = None
    activation_function: str = "gelu_new"
    embd_layer: str = "default"
    embd_scale: float | None = None
    architecture: dict[str, Any] | list[Any] | None = None
    head: dict[str, Any] | None = None
    loss: dict[str, Any] | None = None
    final_norm: dict[str, Any] | None = None
    embd_pdrop: float = 0.0
    resid_pdrop: float = 0.0
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    pad_vocab_size_multiple: int = 64
    gradient_checkpointing: bool = False
    cross_sample_token_id: int | None = None
    cp_size: int = 1
    tp_size: int = 1
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    if not is_dataclass(PreTrainedConfig):  # the first releases of transformers 5 have plain classes

        def __init__(self, **kwargs: Any) -> None:
            for name, kind in MixFormerSequentialConfig.__annotations__.items():
                if "ClassVar" not in str(kind):
                    default = copy.deepcopy(getattr(MixFormerSequentialConfig, name))
                    setattr(self, name, kwargs.pop(name, default))
            super().__init__(**kwargs)
            self.__post_init__()

    def __post_init__(self, **kwargs: Any) -> None:
        if is_dataclass(PreTrainedConfig):
            super().__post_init__(**kwargs)
        self._check_sizes()
        multiple = self.pad_vocab_size_multiple
        self.vocab_size = -(-self.vocab_size // multiple) * multiple
        self._set_architecture()

    def _set_architecture(self) -> None:
        if is_first_generation(self.architecture):
            said = FIRST_GENERATIONS_ROTARY_DIM if self.rotary_dim is None else self.rotary_dim
            self.rotary_dim = min(said, self.n_embd // self.n_head)
        first_generation_norm = {"norm_cls": "torch", "eps": self.layer_norm_epsilon}
        self.architecture: Architecture = normal_form(self.architecture, first_generation_norm)
        self.rotary_dim = self.rotary_dim or self.n_embd // self.n_head
        self._check_task_keys()

    def _check_task_keys(self) -> None:
        for key in ("head", "loss", "final_norm"):
            value = getattr(self, key)
            if value is None:
                continue
            if isinstance(self.architecture, dict):
                raise ConfigurationError(
                    f"`{key}` goes with a list architecture; in a dict it is `architecture."
                    f"{'norm' if key == 'final_norm' else key}`."
                )
            if not isinstance(value, dict):
                raise ArchitectureTypeError(f"`{key}` must be a dictionary, but got {value!r}.")

    def _check_sizes(self) -> None:
        positive = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "pad_vocab_size_multiple", "cp_size")
        for name in (*positive, "tp_size"):
            _check_whole(name, getattr(self, name), least=1)
        for name in ("n_inner", "n_head_kv"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), least=1)
        if self.rotary_dim is not None:
            _check_whole("rotary_dim", self.rotary_dim, least=-1)
        for name in ("embd_pdrop", "resid_pdrop", "layer_norm_epsilon", "initializer_range"):
            _check_number(name, getattr(self, name), most=1.0 if name.endswith("pdrop") else math.inf)
        if self.embd_scale is not None and self.embd_layer in ("default", "positional"):
            raise invalid(
                "embd_scale",
                self.embd_scale,
                f"None with embd_layer {self.embd_layer!r}; take 'scaled' or 'scaled_table'",
            )
        for name in ("tie_word_embeddings", "use_cache"):
            if not isinstance(getattr(self, name), bool):
                raise invalid(name, getattr(self, name), "true or false")
        parallel = self.cp_size * self.tp_size
        for name in ("n_head", "n_head_kv"):
            if (getattr(self, name) or self.n_head) % parallel:
                raise invalid(name, getattr(self, name), f"a multiple of cp_size * tp_size = {parallel}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON data. Keys that only mean something with a list architecture are left out else."""
        output = super().to_dict()
        for key in ("head", "loss", "final_norm", "embd_scale"):
            if output.get(key) is None:
                output.pop(key, None)
        return output

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> MixFormerSequentialConfig:
        """Read JSON data of any generation. An `architecture` in kwargs is merged into the stored one."""
        current = as_current_generation(config_dict)
        if "architecture" in kwargs:
            current["architecture"] = merged(current.get("architecture"), kwargs.pop("architecture"))
        return super().from_dict(current, **kwargs)


class PhiMsftConfig(MixFormerSequentialConfig):
    """Reads configurations of model type "phi-msft", the third generation, as `MixFormerSequentialConfig`."""

    model_type = PHI_MSFT

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> MixFormerSequentialConfig:
        """As `MixFormerSequentialConfig.from_dict`."""
        return MixFormerSequentialConfig.from_dict({**config_dict, "model_type": PHI_MSFT}, **kwargs)


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise invalid(name, value, f"a whole number >= {least}")


def _check_number(name: str, value: object, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise invalid(name, value, "a number >= 0" if most == math.inf else f"a number from 0 to {most}")
