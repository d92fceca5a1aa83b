"""`MixFormerSequentialForCausalLM` and `MixFormerSequentialForSequenceClassification`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast, SequenceClassifierOutputWithPast

from mixformer.blocks.mlps.moe import router_loss
from mixformer.blocks.unit_linear import ROWS, UnitLinear
from mixformer.configuration_mixformer_sequential import MixFormerSequentialConfig
from mixformer.errors import InputError
from mixformer.pretrained import MixFormerSequentialPreTrainedModel
from mixformer.samples import sample_ids_of


class MixFormerSequentialForCausalLM(MixFormerSequentialPreTrainedModel, GenerationMixin):
    """A MixFormer that predicts the next token.

    Args:
        config: Its configuration. With a list architecture, `config.n_layer` is set to the length of the list.

    Raises:
        ConfigurationError: naming the path in the configuration, what was found and what was expected.
    """

    head_cls = "causal_lm"

    def __init__(self, config: MixFormerSequentialConfig) -> None:
        super().__init__(config)
        head = f"layers.{len(self.layers) - 1}.linear.weight"
        self._tied_weights_keys = {head: "layers.0.wte.weight"}
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """The linear layer of the head."""
        return self.layers[-1].linear

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the linear layer of the head."""
        head = self.layers[-1]
        if getattr(head, "unit_weights", False) and not isinstance(new_embeddings, UnitLinear):
            new_embeddings = UnitLinear.like(new_embeddings, ROWS)
        head.linear = new_embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cu_seqlens: Tensor | None = None,
        sample_ids: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits of the next token at every position, and the loss if labels are given.

        What follows attention_mask is given by name: generations differ in the order.

        Args:
            input_ids: (B, S) integers.
            attention_mask: (B, past + S), 1 for tokens and 0 for padding on either side.
            position_ids: (1 or B, S); by default they count the tokens that are no padding.
            past_key_values: Cache to go on from, and to append to.
            inputs_embeds: (B, S, n_embd) instead of input_ids.
            labels: (B, S) integers, or as many in one row, -100 where there is nothing to predict.
            use_cache: Whether to return a cache; by default `config.use_cache` outside training.
            output_hidden_states: Return the input of every block and the output of the last, L + 1 times
                (B, S, n_embd).
            return_dict: False for a tuple.
            cu_seqlens: (samples + 1,) int32 boundaries of packed samples over the flattened batch, among them the end
                of each row.
            sample_ids: (B, past + S), positive numbers of packed samples, 0 for padding.
            logits_to_keep: Compute only the last so many logits, or those at these positions; 0 for all.
            num_items_in_batch: See `CausalLMLoss`.

        Returns:
            Loss, logits (B, S, vocab_size), cache and hidden states.

        Raises:
            InputError: for arguments that contradict each other, the configuration or the cache.
        """
        hidden_states, cache, collected = self.run_blocks(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            cu_seqlens=cu_seqlens,
            sample_ids=sample_ids,
            **kwargs,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.layers[-1](hidden_states[:, keep])  # (B, S, vocab_size)
        loss = None
        if labels is not None:
            items = {} if num_items_in_batch is None else {"num_items_in_batch": num_items_in_batch}
            loss = self.loss(logits, labels, **items)
            routers = router_loss(self, attention_mask)
            loss = loss if routers is None else loss + routers.to(loss.device)
        output = CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache, hidden_states=collected)
        return output if self.returns_dict(return_dict) else output.to_tuple()

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers does; without a cache where a mixer cannot decode onto one, unless one is asked for."""
        if not self.supports_cache:
            kwargs.setdefault("use_cache", False)
        return super().generate(*args, **kwargs)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, inputs_embeds: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """As transformers does; with `cross_sample_token_id`, the samples of the whole sequence go along.

        The tokens of one decoding step alone do not say which sample they belong to.
        """
        inputs = super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)
        inputs.pop("cache_position", None)  # of transformers 5.0; the cache says how far it is
        if self.config.cross_sample_token_id is not None and inputs.get("inputs_embeds") is None:
            inputs["sample_ids"] = sample_ids_of(input_ids, self.config.cross_sample_token_id)
        return inputs

    @staticmethod
    def create_masks_for_generate(
        attention_mask: Tensor | None = None, past_key_values: Cache | None = None, **kwargs: Any
    ) -> Tensor | None:
        """The padding mask as it is, (B, past + S): layers make their own masks, each with its window.

        For a cache of fixed size it is padded to that size, so that its shape stays the same from step to step.
        """
        length = _fixed_length(past_key_values)
        if attention_mask is None or length is None or length <= attention_mask.shape[1]:
            return attention_mask
        return nn.functional.pad(attention_mask, (0, length - attention_mask.shape[1]))


def _fixed_length(cache: Cache | None) -> int | None:
    """The size of a cache that does not grow; None or -1 for others. transformers 5.0 has another name for it."""
    if cache is None:
        return None
    return cache.get_max_length() if hasattr(cache, "get_max_length") else cache.get_max_cache_shape()


class MixFormerSequentialForSequenceClassification(MixFormerSequentialPreTrainedModel):
    """A MixFormer that classifies whole sequences by one token, as the SDK's: the last that is no padding.

    It is the token before the first padding, or the last of a row that has no padding or begins with it. Padding is
    `pad_token_id` (so a row ends at the first one, whatever stands behind it) and what attention_mask hides, which the
    SDK does not ask; where that would still give a hidden token, it is the last one that the mask shows.

    Args:
        config: Its configuration, with `problem_type`.

    Raises:
        ConfigurationError: naming the path in the configuration, what was found and what was expected.
    """

    head_cls = "seq_cls"

    def __init__(self, config: MixFormerSequentialConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cu_seqlens: Tensor | None = None,
        sample_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutputWithPast | tuple[Any, ...]:
        """Scores of each class for each sequence, and the loss if labels are given.

        Args:
            labels: See `SequenceClassificationLoss.forward`.
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache, output_hidden_states,
                return_dict, cu_seqlens, sample_ids: As in `MixFormerSequentialForCausalLM.forward`.

        Returns:
            Loss, logits (B, num_labels), cache and hidden states.

        Raises:
            InputError: if a batch has neither an attention_mask nor a `pad_token_id` to find the last tokens by, or for
                arguments that are unknown or contradict each other.
        """
        hidden_states, cache, collected = self.run_blocks(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            cu_seqlens=cu_seqlens,
            sample_ids=sample_ids,
            **kwargs,
        )
        scores = self.layers[-1](hidden_states)  # (B, S, num_labels)
        rows = torch.arange(scores.shape[0], device=scores.device)
        last = self._last_token(input_ids, attention_mask, scores)
        logits = scores[rows, last]  # (B, num_labels)
        loss = self.loss(logits, labels) if labels is not None else None
        output = SequenceClassifierOutputWithPast(
            loss=loss, logits=logits, past_key_values=cache, hidden_states=collected
        )
        return output if self.returns_dict(return_dict) else output.to_tuple()

    def _last_token(self, input_ids: Tensor | None, attention_mask: Tensor | None, scores: Tensor) -> Tensor:
        """Index of the token that each row is classified by, (B,); see the class."""
        batch, length = scores.shape[:2]
        pad = self.config.pad_token_id if input_ids is not None else None
        if attention_mask is None and pad is None and batch > 1:
            raise InputError("a batch of several sequences needs an attention_mask or config.pad_token_id.")
        hidden = torch.zeros((batch, length), dtype=torch.bool, device=scores.device)
        if attention_mask is not None:
            hidden = attention_mask[:, -length:].to(scores.device) == 0
        padding = hidden if pad is None else hidden | (input_ids.to(scores.device) == pad)
        last = (padding.long().argmax(-1) - 1) % length
        shown = (torch.arange(length, device=scores.device) * ~hidden).argmax(-1)
        return torch.where(hidden.gather(1, last[:, None])[:, 0], shown, last)
