"""What both task classes share: building the layers, running the blocks, and what transformers expects of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from mixformer.blocks import BLOCKS, get_block
from mixformer.blocks.branches import first, keywords_of, taken
from mixformer.blocks.embeddings import get_embedding
from mixformer.blocks.heads import get_head, get_loss
from mixformer.blocks.learned_scale import LearnedScale
from mixformer.blocks.mlps.experts import ExpertMatrix
from mixformer.blocks.norms.rms import FlashRMSLayerNorm
from mixformer.blocks.norms.torch_norm import LayerNorm
from mixformer.cache_layers import guesses_cache_support, number_cache_layers, unfilled_layer
from mixformer.checkpoints import deepspeed_state_dict, legacy_names, renamed
from mixformer.configuration_mixformer_sequential import MixFormerSequentialConfig
from mixformer.derived_buffers import DerivedBuffers
from mixformer.errors import ConfigurationError, InputError
from mixformer.forward_context import ForwardContext
from mixformer.gradient_checkpointing import check_checkpointing
from mixformer.inputs import forward_context

# Where to find a folder on the Hub, for the configuration as for the weights.
HUB_KEYWORDS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")

Output = tuple[Tensor, Cache | None, tuple[Tensor, ...] | None]


class MixFormerSequentialPreTrainedModel(PreTrainedModel):
    """Embedding, blocks and head in one `nn.Sequential`, `layers`; the loss beside it.

    State-dict keys: `layers.0.*` the embedding, `layers.1.*` to `layers.L.*` the blocks, `layers.{L+1}.*` the head.
    """

    config_class = MixFormerSequentialConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = False
    _supports_attention_backend = False
    _can_compile_fullgraph = True
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012  (transformers 5.0 adds to a list)

    head_cls: str

    def __init__(self, config: MixFormerSequentialConfig) -> None:
        super().__init__(config)
        self._no_split_modules = [block_class.__name__ for block_class in BLOCKS.values()]
        blocks = get_block(config, config.architecture)
        self.layers = nn.Sequential(get_embedding(config), *blocks, get_head(config, *self._task_entry("head")))
        entry, path = self._task_entry("loss")
        self.loss = get_loss(config, loss_config=entry, path=path)
        self.gradient_checkpointing = False
        # Parts name the parameters whose values 8 bits of precision would spoil in an attribute `keep_in_fp32`.
        keep = {name for module in self.modules() for name in getattr(module, "keep_in_fp32", ())}
        self._keep_in_fp32_modules_strict = sorted(keep)
        number_cache_layers(self)
        self._keywords = [keywords_of(layer) for layer in self.layers]
        self._guesses_cache_support = guesses_cache_support(self)

    def _task_entry(self, kind: str) -> tuple[dict[str, Any], str]:
        """The sub-dict for head or loss and its path; it has to name this class's own task."""
        architecture = self.config.architecture
        inside = isinstance(architecture, dict)
        entry = architecture.get(kind) if inside else getattr(self.config, kind, None)
        path = f"architecture.{kind}" if inside else kind
        entry = {f"{kind}_cls": self.head_cls} if entry is None else entry
        name = entry.get(f"{kind}_cls")
        if name != self.head_cls:
            raise ConfigurationError(f"`{path}.{kind}_cls` must be {self.head_cls!r}, but got {name!r}.")
        return entry, path

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers between embedding and head."""
        return list(self.layers)[1:-1]

    @property
    def supports_cache(self) -> bool:
        """Whether all blocks decode onto a cache; a block that says nothing does not."""
        return all(getattr(block, "supports_cache", False) for block in self.blocks)

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embedding."""
        return self.layers[0].wte

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embedding."""
        self.layers[0].wte = value

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As transformers does. A size that is no multiple of `pad_vocab_size_multiple` turns padding off.

        Otherwise the configuration would round the size up when it is read again.
        """
        embedding = super().resize_token_embeddings(*args, **kwargs)
        if getattr(self.layers[-1], "logit_scale", None) is not None:
            self.layers[-1].logit_scale.resize(self.config.vocab_size)
        if self.config.vocab_size % self.config.pad_vocab_size_multiple:
            self.config.pad_vocab_size_multiple = 1
        return embedding

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """As transformers does, for checkpoints of every generation and DeepSpeed folders.

        Args:
            pretrained_model_name_or_path: Folder or Hub id.
            config: Configuration to use instead of the folder's.
            args, kwargs: As in `PreTrainedModel.from_pretrained`.

        Raises:
            CheckpointError: for a DeepSpeed folder whose weights are sharded over processes.
        """
        place = pretrained_model_name_or_path
        if place is None or "key_mapping" in kwargs:
            return super().from_pretrained(place, *args, config=config, **kwargs)
        # Any configuration will do: of a local folder transformers loads the class twice, once for each file.
        if not isinstance(config, PreTrainedConfig):
            rest = {key: kwargs[key] for key in HUB_KEYWORDS if key in kwargs}
            own = {key: kwargs.pop(key) for key in _config_keywords(kwargs)}
            config = cls.config_class.from_pretrained(place if config is None else config, **rest, **own)
        names = legacy_names(_block_count(config))
        # transformers' trainer leaves its own files beside DeepSpeed's; then they are the model.
        weights = deepspeed_state_dict(Path(place)) if Path(place).is_dir() and not _has_weights(Path(place)) else None
        if weights is not None:
            weights = renamed(weights, names)
            return super().from_pretrained(None, *args, config=config, state_dict=weights, **kwargs)
        result = super().from_pretrained(place, *args, config=config, key_mapping=names, **kwargs)
        model = result[0] if isinstance(result, tuple) else result
        model._weight_conversions = []  # saved under current names, not under those it came with
        return result

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As transformers does; besides, buffers that no checkpoint holds are filled."""
        super()._init_weights(module)
        if isinstance(module, DerivedBuffers):
            module.reset_buffers()
        if (
            isinstance(module, FlashRMSLayerNorm | LayerNorm)
            and module.zero_centered_weight
            and module.weight is not None
        ):
            init.zeros_(module.weight)  # transformers' own: it leaves alone what was loaded
        if isinstance(module, ExpertMatrix):
            init.normal_(module.weight, std=module.std)
        if isinstance(module, LearnedScale):
            init.constant_(module.weight, module.spec.scaling)

    def returns_dict(self, return_dict: bool | None) -> bool:
        """Whether a forward pass returns a `ModelOutput`."""
        return bool(self.config.return_dict if return_dict is None else return_dict)

    def run_blocks(
        self,
        input_ids: Tensor | None,
        *,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **inputs: Any,
    ) -> Output:
        """The residual stream before the head, (B, S, n_embd), the cache, and all hidden states if asked for."""
        if output_attentions:
            raise InputError("output_attentions is not supported: no backend returns attention weights.")
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give either input_ids or inputs_embeds.")
        if self.gradient_checkpointing and self.training:
            check_checkpointing(self.blocks, self._gradient_checkpointing_func)
        cache = self._cache_of_pass(past_key_values, use_cache)
        context, mixer_inputs = forward_context(self.config, input_ids, inputs_embeds, cache, **inputs)
        x = self._embed(input_ids, inputs_embeds=inputs_embeds, position_ids=context.position_ids)
        layer_inputs = {"context": context, "past_key_values": cache, **mixer_inputs}
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        collected = (x,) if wanted else None
        for block, names in zip(self.blocks, self._keywords[1:-1], strict=True):
            x = self._run_block(block, x, **taken(layer_inputs, names))
            collected = (*collected, x) if wanted else None  # a list kept for nobody would hold every layer's memory
        return x, self._filled(cache, context, own=past_key_values is None), collected

    def _embed(self, input_ids: Tensor | None, **inputs: Tensor | None) -> Tensor:
        names = self._keywords[0]
        if inputs["inputs_embeds"] is not None and names is not None and "inputs_embeds" not in names:
            raise InputError("inputs_embeds was given, but the embedding of this model takes only input_ids.")
        return first(self.layers[0](input_ids, **taken(inputs, names)))

    def _filled(self, cache: Cache | None, context: ForwardContext, *, own: bool) -> Cache | None:
        """The cache, if every attention has appended to it; one of our `own` that is not full is nobody's loss."""
        if cache is None or not self._guesses_cache_support or torch.compiler.is_compiling():
            return cache
        layer = unfilled_layer(self, cache, context.past_length + context.position_ids.shape[1])
        if layer is None:
            return cache
        if own:
            return None
        raise InputError(
            f"layer {layer} of past_key_values was not filled: a block or mixer of this model does not hand it to its "
            "attention. Set `supports_cache = False` on it, or call with use_cache=False."
        )

    def _run_block(self, block: nn.Module, x: Tensor, **kwargs: Any) -> Tensor:
        if self.gradient_checkpointing and self.training:
            # Bound by name: a checkpoint that passes them by position mixes them up.
            return first(self._gradient_checkpointing_func(partial(block.__call__, **kwargs), x))
        return first(block(x, **kwargs))

    def _cache_of_pass(self, past_key_values: Cache | None, use_cache: bool | None) -> Cache | None:
        if past_key_values is not None:
            if not self.supports_cache:
                raise InputError("past_key_values was given, but a mixer of this model cannot decode onto a cache.")
            if self.gradient_checkpointing and self.training:
                raise InputError("gradient checkpointing would append to past_key_values twice: train without a cache.")
            return past_key_values
        wanted = (self.config.use_cache and not self.training) if use_cache is None else use_cache
        if not wanted or not self.supports_cache or (self.gradient_checkpointing and self.training):
            return None
        return DynamicCache()


def _block_count(config: MixFormerSequentialConfig) -> int:
    return len(config.architecture) if isinstance(config.architecture, list) else config.n_layer


def _has_weights(folder: Path) -> bool:
    """Whether a folder holds weights under the names of transformers."""
    names = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
    return any((folder / name).is_file() for name in names)


def _config_keywords(keywords: Mapping[str, Any]) -> list[str]:
    """Those of the keywords that change the configuration."""
    known = {f.name for f in fields(MixFormerSequentialConfig)} | set(MixFormerSequentialConfig.attribute_map)
    return [key for key in keywords if key in (known | {"num_labels"}) - {"dtype"}]
