"""Coverage: each model type for which transformers 5.23 has a causal language model, and which family holds it or why
none does.

What is held is asked of the families. The reasons for the others are facts of transformers' code, written down here,
so that nothing of it is loaded; a test holds the list of types equal to that of transformers.
"""

from collections import Counter
from dataclasses import dataclass

from converters.family import list_families


@dataclass(frozen=True)
class Covered:
    """One model type. family: its name, empty where there is none; kind, reason: then why not."""

    model_type: str
    family: str = ""
    kind: str = ""
    reason: str = ""


ENCODER, TRANSLATOR = "encoder", "encoder-decoder"
RECURRENT, MIXTURE, MODAL = "recurrent", "mixture of another kind", "multi-modal"
COMPRESSED, DENSE = "compressed keys and values", "dense, not yet"

# kind, reason, types
REASONS = (
    (
        ENCODER,
        "an encoder with a head for language: token types, norms behind the sums",
        """bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta
        roberta-prelayernorm roc_bert roformer xlm xlm-roberta xlm-roberta-xl xmod""",
    ),
    (ENCODER, "attention in the order of a permutation, with two streams", "xlnet"),
    (
        TRANSLATOR,
        "the decoder of an encoder-decoder: attention over what the encoder gave",
        """bart bigbird_pegasus blenderbot blenderbot-small marian mbart musicgen musicgen_melody mvp pegasus plbart
        prophetnet trocr whisper""",
    ),
    (
        MODAL,
        "images, sound or both beside the text; its text model may be held where it is saved alone",
        """emu3 fuyu gemma3 gemma3n gemma4 gemma4_unified git got_ocr2 mllama moshi moss_transcribe_diarize
        phi4_multimodal""",
    ),
    (
        MODAL,
        "a text model with positions of images in its rotary embedding",
        "cohere_compass_text",
    ),
    (
        MODAL,
        "a text model with an embedding for each layer",
        "gemma3n_text gemma4_unified_text",
    ),
    (
        MODAL,
        "drafts for another model from its hidden states",
        "gemma4_assistant gemma4_unified_assistant",
    ),
    (RECURRENT, "a state space model", "falcon_mamba mamba mamba2"),
    (RECURRENT, "a recurrence in the place of attention", "recurrent_gemma rwkv xlstm"),
    (
        RECURRENT,
        "layers with a state space or a short convolution between layers of attention",
        """bamba falcon_h1 granitemoehybrid jamba lfm2 lfm2_moe lfm3 nemotron_h zamba zamba2""",
    ),
    (
        RECURRENT,
        "layers of linear attention between those with a softmax",
        """bailing_hybrid kimi_linear minimax olmo_hybrid qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_next
        qwen4_exp qwen4_exp_text""",
    ),
    (RECURRENT, "one stack of layers that runs several times over its own output", "hrm_text"),
    (RECURRENT, "a convolution beside attention, and experts", "inkling2_text inkling_text"),
    (
        COMPRESSED,
        "latent attention, and a mixture of another kind",
        """axk1 axk2 deepseek_v2 deepseek_v3 deepseek_v32 dots3_note dots3_note_text glm4_moe_lite glm_moe_dsa hy_v4
        longcat_flash""",
    ),
    (COMPRESSED, "latent attention, without experts", "minicpm3 youtu"),
    (COMPRESSED, "layers that compress the cache to different lengths, and experts", "deepseek_v4"),
    (
        MIXTURE,
        "a router with a sigmoid, most with a bias for balance and plain layers first",
        """afmoe beam cohere2_moe dots1 exaone_moe glm4_moe hy_v3 kolibri1 laguna mimo_v2_flash minimax_m2
        solar_open""",
    ),
    (MIXTURE, "a router with a bias for balance, and shared experts without a gate", "ernie4_5_moe"),
    (MIXTURE, "biases in the experts, a bounded activation, and a sink in each softmax", "gpt_oss"),
    (MIXTURE, "a sink in each softmax", "flint granitemoe_swa"),
    (MIXTURE, "multipliers of Granite, and experts stored as one tensor", "granitemoe granitemoeshared"),
    (MIXTURE, "experts stored as one tensor, LayerNorms, a bound of q, k and v", "dbrx"),
    (MIXTURE, "a router with two masked choices, LayerNorms, biases", "phimoe"),
    (MIXTURE, "experts of attention too", "jetmoe"),
    (MIXTURE, "experts as small as one neuron, looked up by keys; a mask that depends on values", "doge"),
    (MIXTURE, "a router with an MLP and a memory of the layer before; compressed convolution of q and k", "zaya"),
    (MIXTURE, "a router with a sigmoid on inputs, and layers without rotary embeddings", "llama4 llama4_text"),
    (MIXTURE, "experts beside a plain MLP in each layer, with norms of their own", "gemma4_text"),
    (MIXTURE, "experts stored as one tensor, and shared ones without a gate", "aria_text"),
    (MIXTURE, "q and k normalised behind the rotary embedding, and a shared expert", "hunyuan_v1_moe"),
    (MIXTURE, "keys chosen by an indexer, and experts", "minimax_m3_vl_text"),
    (MIXTURE, "norms behind the branches, and experts", "flex_olmo"),
    (MIXTURE, "windows by the kind of layer, and plain layers between", "mellum"),
    (DENSE, "weights of two bits, with scales", "bitnet"),
    (DENSE, "two softmaxes of which one is subtracted", "diffllama"),
    (DENSE, "bytes in patches of changing length", "blt"),
    (DENSE, "attention by hashes, reversible layers", "reformer"),
    (DENSE, "prompts as tokens, a bias of positions by buckets", "cpmant"),
    (DENSE, "fixed sinusoids as positions", "ctrl xglm"),
    (DENSE, "learned positions from row 2 on and an embedding that is scaled", "biogpt"),
    (DENSE, "norms behind the sums", "openai-gpt"),
    (DENSE, "the class of GPT-2 or LLaMA under another name: say model_type gpt2 or llama", "gpt-sw3 iquestcoder"),
    (DENSE, "squared ReLU and norms without weights, with a bound of logits", "nanochat"),
    (DENSE, "norms of q and k that have biases, partial rotary, squared ReLU", "persimmon"),
    (DENSE, "a bias after the sum of the last layers' attention alone", "gpt_neox_japanese"),
    (DENSE, "thetas by the kind of layer, LayerNorms, a GLU with the gate first", "modernbert-decoder"),
    (DENSE, "interleaved rotary embeddings", "ernie4_5"),
    (DENSE, "norms of q and k behind the rotary embedding", "hunyuan_v1_dense"),
    (DENSE, "multipliers as Granite's, and further norms", "hyperclovax"),
    (DENSE, "Cohere with windows and layers without rotary embeddings", "cohere2"),
    (DENSE, "windows by the kind of layer, norms behind the branches", "olmo3"),
    (DENSE, "windows by the kind of layer", "cwm"),
    (DENSE, "a sink in each softmax", "granite_swa"),
    (DENSE, "Gemma-2 without norms behind the branches", "vaultgemma"),
    (DENSE, "a plug-in of the tests", "jais2"),
)


def coverage() -> tuple[Covered, ...]:
    """Every model type, by name; what a family holds is held, whatever reason stands for it."""
    own = [family for family in list_families(plugins=False) if not family.dialect_of]
    held = {kind: Covered(kind, family.name) for family in own for kind in family.model_types}
    found = {**reasons(), **held}
    return tuple(found[name] for name in sorted(found))


def reasons() -> dict[str, Covered]:
    """Model type -> why no family holds it."""
    return {name: Covered(name, kind=kind, reason=reason) for kind, reason, names in REASONS for name in names.split()}


def counts() -> dict[str, int]:
    """How many types are held, and how many are not for each kind of reason."""
    return dict(Counter(one.kind or "held" for one in coverage()).most_common())


def markdown() -> str:
    """The table of docs/coverage.md."""
    found = coverage()
    held = sum(bool(one.family) for one in found)
    lines = [f"{held} of {len(found)} types are held.", "", "| model_type | family | why not |", "| --- | --- | --- |"]
    for one in found:
        family = f"`{one.family}`" if one.family else "–"
        lines.append(f"| `{one.model_type}` | {family} | {f'{one.kind}: {one.reason}' if one.kind else ''} |")
    return "\n".join(lines)
