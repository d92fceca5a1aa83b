"""The hot models of the built-in families: config classes of transformers or golden, sizes, and what the tests vary.

Sizes are chosen so that nothing fits by accident: heads x head_dim is not n_embd, the vocabulary is odd. A family of
another package has its recipe in its FAMILY.
"""

from collections.abc import Mapping
from typing import Any

from converters.family import Hot

_WIDE: dict[str, Any] = {
    "vocab_size": 331,
    "hidden_size": 48,
    "intermediate_size": 88,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_GROUPED = _WIDE | {"num_key_value_heads": 2, "head_dim": 20}
_NARROW_POSITIONS: dict[str, Any] = {
    "vocab_size": 331,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 160,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
_TURNING = _NARROW_POSITIONS | {"rotary_dim": 6}

_ROPES: tuple[dict[str, Any], ...] = (
    {"rope_type": "default", "rope_theta": 5e5},
    {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
    {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 40},
)
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.5, 2.0],  # for the 6 dimensions of a head of 12 that turn
    "long_factor": [1.0, 3.0, 9.0],
}
_ONE_WINDOW: dict[str, tuple[Any, ...]] = {"sliding_window": (None, 5, 24)}
_LAYER_WINDOWS: dict[str, tuple[Any, ...]] = {
    "rope_parameters": _ROPES,
    "use_sliding_window": (True, True, False),
    "sliding_window": (5, 24),
    "max_window_layers": (0, 1),
}

_SPHERE: dict[str, Any] = {"vocab_size": 331, "n_embd": 48, "n_layer": 3, "n_head": 4, "dtype": "float32"}
_SPHERES: dict[str, tuple[Any, ...]] = {"n_embd": (24, 60, 120), "n_head": (2, 6)}

RECIPES: Mapping[str, Hot] = {
    "llama": Hot("LlamaConfig", _GROUPED | {"rms_norm_eps": 1e-5}, {"rope_parameters": _ROPES}),
    "mistral": Hot(
        "MistralConfig",
        _GROUPED | {"sliding_window": 24, "rms_norm_eps": 1e-5},
        {"rope_parameters": _ROPES, **_ONE_WINDOW},
    ),
    "qwen2": Hot("Qwen2Config", _GROUPED | {"rms_norm_eps": 1e-5}, _LAYER_WINDOWS),
    "qwen3": Hot("Qwen3Config", _GROUPED, _LAYER_WINDOWS),
    "phi": Hot(
        "PhiConfig",
        _WIDE | {"num_key_value_heads": 2, "partial_rotary_factor": 0.5},
        {"rope_parameters": _ROPES, "partial_rotary_factor": (0.5, 1.0, 0.7)},
    ),
    "phi3": Hot(
        "Phi3Config",
        _GROUPED | {"partial_rotary_factor": 0.7, "sliding_window": 24},
        {
            "head_dim": (12,),
            "partial_rotary_factor": (0.5,),
            "rope_parameters": (_ROPES[0], _LONGROPE),
            "original_max_position_embeddings": (48, 160),
            **_ONE_WINDOW,
        },
    ),
    "gpt2": Hot("GPT2Config", _NARROW_POSITIONS),
    "gptj": Hot("GPTJConfig", _TURNING),
    "codegen": Hot("CodeGenConfig", _TURNING),
    "ngpt-tutorial": Hot(
        "golden.models.hot_dialects.TutorialConfig",
        _SPHERE | {"learned_rates": True},
        _SPHERES | {"learned_rates": (True, False)},
        harmless=("rows of layers.{b}.mlp.uv_scale.weight shuffled",),  # S_uv has no effect
    ),
    "ngpt-evintunador": Hot(
        "golden.models.hot_dialects.EvintunadorConfig",
        {"vocab_len": 331, "dim": 48, "num_layers": 3, "num_heads": 4, "max_seq_len": 160, "theta": 10000.0}
        | {"mlp_hidden_mult": 3, "dtype": "float32"},
        {"vocab_len": (257, 320), "dim": (24, 60, 120), "num_layers": (1, 2, 4), "num_heads": (2, 6)}
        | {"max_seq_len": (64, 300), "theta": (10000.0, 5e5), "mlp_hidden_mult": (4, 2.5)},
    ),
    "ngpt-joeli": Hot(
        "golden.models.hot_dialects.JoeLiConfig",
        _SPHERE | {"n_inner": 88, "base_scale": 0.125, "n_positions": 160, "tie_word_embeddings": False},
        _SPHERES
        | {"base_scale": (0.02, 0.25, 48**-0.5), "n_positions": (64, 300), "tie_word_embeddings": (True, False)},
    ),
    "ngpt-lucidrains": Hot(
        "golden.models.hot_dialects.LucidrainsConfig",
        _SPHERE
        | {"head_dim": 10, "n_inner": 88, "parametrized": True, "value_residual": True, "tie_word_embeddings": False},
        {"n_embd": (24, 60, 120), "n_head": (2, 6), "head_dim": (6, 16), "n_inner": (52, 90)}
        | {"parametrized": (True, False), "value_residual": (False, True)},
    ),
    "ngpt-modded-nanogpt": Hot(
        "golden.models.hot_dialects.ModdedConfig", _SPHERE | {"n_inner": 88}, _SPHERES | {"n_inner": (52, 90)}
    ),
    "ngpt-olmo": Hot(
        "golden.models.hot_dialects.OlmoConfig",
        {"vocab_size": 331, "d_model": 48, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "rope_theta": 500_000}
        | {"hidden_size": 88},
        {"vocab_size": (257, 320), "d_model": (24, 60, 120), "n_layers": (1, 2, 4), "n_heads": (2, 6)}
        | {"n_kv_heads": (1, 2, None), "rope_theta": (10_000, 500_000), "hidden_size": (52, 90)},
    ),
    "ngpt-nvidia": Hot(
        "golden.models.hot_dialects.NvidiaConfig",
        _SPHERE | {"use_nGPT": 1, "base_scale": 0.125, "bias": False, "block_size": 512, "dropout": 0.0},
        _SPHERES
        | {
            "use_nGPT": (1, 0),
            "base_scale": (0.02, 0.25, 48**-0.5),
            "bias": (True, False),
            "block_size": (64, 300),
            "dropout": (0.0, 0.1),
        },
    ),
}
"""Family -> its hot model; what a family alone understands, or its config class does not show, is drawn here."""
