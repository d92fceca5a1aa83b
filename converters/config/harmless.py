"""Fields of config.json that people's checkpoints carry and that nothing reads, each with the values that mean nothing.

A field is here if no code of transformers 5.23 reads it for that family: neither the model, nor its config class, its
rope, masks, caches or generation. A test shows it for each value: the logits stay what they were. Another value stays
refused, for whoever wrote it may have meant something by it. Fields of every config class are in
`converters.config.table`: `BASE`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from converters.config.echo import Echo
from converters.config.entries import Theirs
from converters.config.kinds import BOOL, FRACTION, POSITIVE, POSITIVE_INT, TOKENS, Kind, one_of

TEXT = Kind("a text", lambda value: isinstance(value, str))
SWITCHED_OFF = Kind("a whole number, -1 for none", lambda value: type(value) is int and -1 <= value < 2**31)
LAYERS = Kind("a whole number", lambda value: type(value) is int and 0 <= value < 2**31)

GPT = ("gpt2", "gptj", "codegen")
PLAIN = ("llama", "mistral", "qwen2", "qwen3", "phi3")  # a GLU and RMS norms
ALL = (*GPT, *PLAIN, "phi")
MOST_LAYERS = 10_000
HEADS = "of the second head of a GPT2DoubleHeadsModel"
NO_BIASES = "there are no such biases, which the tensors show too"


@dataclass(frozen=True)
class Harmless:
    """Fields that mean nothing to these families (values of `model_type`) at these values, and why.

    So does null, unless `null` is off because transformers itself refuses it. kind: values that are too many to list.
    """

    names: tuple[str, ...]
    families: tuple[str, ...]
    why: str
    values: tuple[Any, ...] = ()
    kind: Kind | None = None
    null: bool = True


@dataclass(frozen=True)
class Repeated:
    """A field that repeats others: it means nothing where it says the same. value, words: see `Echo`."""

    name: str
    families: tuple[str, ...]
    why: str
    value: Callable[[Mapping[str, Any]], Any]
    words: str


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FACTS = (
    # Relics: fields that transformers itself once wrote, and that nothing has read since.
    Harmless(("_num_labels",), ALL, "labels of a classifier; id2label says them now", kind=POSITIVE_INT),
    Harmless(("n_special",), GPT, "rows of the embedding for tokens of its own; there are none", (0,)),
    Harmless(("predict_special_tokens",), GPT, "of a head over those tokens, of which there are none", (True,)),
    Harmless(("output_past",), ALL, "the old name of use_cache", kind=BOOL),
    Harmless(("xla_device",), ALL, "whether it was trained on a TPU", kind=BOOL),
    Harmless(("eos_token_ids",), ALL, "what XLM called eos_token_id", kind=TOKENS),
    Harmless(("gradient_checkpointing",), (*PLAIN, "phi"), "saves memory in training", kind=BOOL),
    Harmless(("pretraining_tp",), (*PLAIN[1:], "phi"), "of LLaMA: into how many parts a product was cut", (1,)),
    Harmless(("max_new_tokens", "min_new_tokens"), ALL, "settings of generation", kind=POSITIVE_INT),
    Harmless(("_from_model_config",), ALL, "where settings of generation came from", kind=BOOL),
    # Of a head of another kind, that a causal language model does not have.
    Harmless(("summary_activation",), GPT, HEADS, kind=TEXT),
    Harmless(("summary_type",), GPT, HEADS, kind=TEXT, null=False),
    Harmless(("summary_use_proj", "summary_proj_to_labels"), GPT, HEADS, kind=BOOL, null=False),
    Harmless(("summary_first_dropout",), GPT, HEADS, kind=FRACTION, null=False),
    # Switches of other code for the same weights, at the position that is this family's own function.
    Harmless(("is_llama_config",), ("llama",), "nanotron's way to say llama", (True,)),
    Harmless(("use_mrope",), PLAIN, "of Qwen2-VL: rotary embeddings for images; off", (False,)),
    Harmless(("lm_head_bias",), PLAIN, NO_BIASES, (False,)),
    Harmless(("mlp_bias",), PLAIN[1:], NO_BIASES, (False,)),
    Harmless(("attention_bias",), ("mistral", "phi3"), NO_BIASES, (False,)),
    Harmless(("qkv_bias",), ("llama", "mistral", "qwen3", "phi3"), NO_BIASES, (False,)),
    Harmless(("attention_bias", "qkv_bias"), ("qwen2",), "q, k and v have biases, as always", (True,)),
    Harmless(("bias",), ("llama", "mistral"), NO_BIASES, (False,)),
    Harmless(("full_attn_mod", "interpolate_factor"), ("phi3",), "of Phi-4's own code: every layer alike", (1,)),
    Harmless(("use_sliding_window",), ("llama",), "LLaMA has no window", (False,)),
    Harmless(("max_window_layers",), ("llama",), "LLaMA has no window", kind=LAYERS),
    Harmless(
        _names("hidden_dropout hidden_dropout_prob attention_probs_dropout_prob dropout embd_pdrop resid_pdrop"),
        PLAIN[:-1],
        "a dropout that is none",
        (0.0,),
    ),
    # How the model is run.
    Harmless(_names("use_flash_attn use_flash_attention use_flash_attention_2"), ALL, "which kernel", kind=BOOL),
    Harmless(("attn_implementation",), ALL, "which kernel", ("eager", "sdpa", "flash_attention_2")),
    Harmless(
        _names("context_window_size prefill_chunk_size attention_sink_size"),
        ALL,
        "of MLC: how the cache is kept while serving",
        kind=SWITCHED_OFF,
    ),
    Harmless(
        _names("tensor_parallel_shards pipeline_parallel_stages max_batch_size max_model_len"),
        ALL,
        "of serving tools",
        kind=POSITIVE_INT,
    ),
    Harmless(("conv_template",), ALL, "of MLC: the name of a chat template", kind=TEXT),
    # How it was trained, on which texts, and by whom.
    Harmless(
        _names("max_sequence_length max_seq_length max_seq_len seq_length seq_len"),
        ALL,
        "how long texts were in training; how long they can be is said by other fields",
        kind=POSITIVE_INT,
    ),
    Harmless(
        _names("model_max_length tokenizer_model_max_length"), ALL, "where the tokenizer cuts texts", kind=POSITIVE
    ),
    Harmless(
        ("tokenizer_padding_side", "padding_side"), ALL, "where the tokenizer pads texts", kind=one_of("left", "right")
    ),
    Harmless(("tokenizer", "tokenizer_name"), ALL, "which tokenizer", kind=TEXT),
    Harmless(
        _names("sequence_parallel_enabled selective_checkpoint_enabled move_model_to_device"),
        ALL,
        "of neuronx-distributed: how training was spread over devices",
        kind=BOOL,
    ),
    Harmless(("author", "license", "created_date"), ALL, "says who made it, when, on which terms", kind=TEXT),
)


def _window(theirs: Mapping[str, Any]) -> Any:
    return theirs.get("sliding_window", 4096)


def all_full(theirs: Mapping[str, Any]) -> Any:
    """`layer_types` of a model without windows."""
    layers = _size(theirs, "num_hidden_layers")
    return ["full_attention"] * layers if 0 < layers < MOST_LAYERS else None


def _head_dim(theirs: Mapping[str, Any]) -> Any:
    width, heads = _size(theirs, "n_embd", "hidden_size"), _size(theirs, "n_head", "num_attention_heads")
    return width // heads if width and heads else None


def _size(theirs: Mapping[str, Any], *names: str) -> int:
    """The first of these sizes that is there, 0 if it is none."""
    said = next((theirs[name] for name in names if name in theirs), None)
    return int(said) if said is not None and POSITIVE_INT.holds(said) else 0


REPEATED = (
    Repeated("sliding_window_size", ("mistral",), "MLC's name for the window", _window, "sliding_window is"),
    Repeated("layer_types", ("llama",), "LLaMA has no window", all_full, "every layer is"),
    Repeated("head_dim", GPT, "heads share the width evenly", _head_dim, "n_embd / n_head is"),
)


def _values(fact: Harmless) -> tuple[Any, ...]:
    return (*fact.values, None) if fact.null else fact.values


def _otherwise(name: str, fact: Harmless) -> str:
    return f"only these are known to mean nothing ({fact.why}). If your value does not either, pass --waive {name}"


def harmless_fields(model_type: str) -> tuple[Theirs | Echo, ...]:
    """The entries of a family's config table for fields that mean nothing."""
    of_it = (fact for fact in FACTS if model_type in fact.families or (fact.families is ALL and model_type not in ALL))
    facts = [(name, fact) for fact in of_it for name in fact.names]
    told = (Theirs(name, _values(fact), _otherwise(name, fact), written=False, kind=fact.kind) for name, fact in facts)
    again = (Echo(fact.name, fact.value, fact.words) for fact in REPEATED if model_type in fact.families)
    return (*told, *again)


def table() -> list[str]:
    """All these fields as a table in Markdown: field, families, values that mean nothing, why."""
    lines = ["| field | families | means nothing at | why |", "| --- | --- | --- | --- |"]
    lines += [_row(name, fact.families, _said(fact), fact.why) for fact in FACTS for name in fact.names]
    return lines + [_row(fact.name, fact.families, f"what {fact.words}", fact.why) for fact in REPEATED]


def _said(fact: Harmless) -> str:
    listed = [*(json.dumps(value) for value in fact.values), *([fact.kind.words] if fact.kind else [])]
    return ", ".join([*listed, *(["null"] if fact.null else [])])


def _row(name: str, families: tuple[str, ...], values: str, why: str) -> str:
    named = "all" if families == ALL else ", ".join(families)
    return f"| `{name}` | {named} | {values} | {why} |"
