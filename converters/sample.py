"""The built-in samples: trained models where the package has one, else hot models made with the standard library.

Hot models have norm weights of about 1 ± 0.2 and peaked attention, so that a wrong conversion shows in the logits; a
freshly initialised model hides many faults. No two sizes are equal by accident: fewer key-value heads than heads,
head_dim is not hidden_size / heads, the vocabulary is no multiple of 64. The tokenizer is one token per byte.
"""

import json
import random
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.checkpoint.safetensors_header import build_header
from converters.engine.output_folder import new_folder, write_file
from converters.errors import TargetRefused, UsageError

if TYPE_CHECKING:
    from converters.family import Family, Hot, Sample

TRAINED = Path(__file__).with_name("samples_data")
"""A folder of config.json and model.safetensors for each family whose sample is trained: see scripts/train_zoo.py."""
LENGTHS = ("max_position_embeddings", "n_positions", "block_size")  # names of the context in configs
SPECIAL = ("<s>", "</s>", "<pad>")


def write_sample(folder: Path, family: str = "llama") -> Path:
    """Writes a family's sample, the same bytes every time; an existing complete sample is left unchanged.

    Raises:
        TargetRefused: the folder cannot be written.
        UsageError: there is no such family, or no sample of it can be made.
    """
    if (folder / "model.safetensors").is_file():
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise TargetRefused(
            f"the sample would be written to {folder}, which holds something else; run in another folder"
        )
    with new_folder(folder, replace=False, durable=False) as fresh:
        for name, data in _files(family):
            write_file(fresh / name, data, durable=False)
    return folder


Shapes = dict[str, tuple[int, ...]]
Model = tuple[dict[str, Any], Shapes, "Sample | None"]  # config.json, tensors, and how a family of its own draws them


def _of_family(family: str) -> Model:
    """The family's own sample, or the first plain model that it can hold, in the sizes of a sample."""
    from converters.config import layout
    from converters.family import get_family
    from converters.small_models import Hot
    from converters.support_matrix import plainest

    found = get_family(family)
    if found.sample:
        return dict(found.sample.config), _shapes_of(found, found.sample.config), found.sample
    if isinstance(found.hot, Hot):
        config = _sized(found, found.hot)
        return config, _shapes_of(found, config), None
    plain = None if found.dialect_of else plainest(found)
    if plain is None:
        raise UsageError(f"there is no built-in sample of {family}; give a SOURCE")
    rotary = 24 if plain["architecture.mixer.rotary_dim"] else 0
    sizes = {"vocab_size": 259, "n_embd": 96, "n_layer": 3, "n_positions": 512, "architecture.mlp.n_inner": 176}
    tokens = {"bos_token_id": 256, "eos_token_id": 257, "dtype": "float32"}
    ours = layout.unflatten({**plain, **sizes, **tokens, "architecture.mixer.rotary_dim": rotary})
    config = found.config.to_theirs(ours, family)
    return config, _shapes_of(found, config), None


def _sized(family: "Family", hot: "Hot") -> dict[str, Any]:
    """The config of a family's small model, with the vocabulary of the sample's tokenizer."""
    tokens = {"vocab_size": 259, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258, "dtype": "float32"}
    sizes = {name: list(value) if isinstance(value, tuple) else value for name, value in hot.sizes.items()}
    named = {"architectures": family.config.own_classes, "model_type": family.model_types[0]}
    return {**named, **sizes, **tokens}


def _shapes_of(family: "Family", config: Mapping[str, Any]) -> Shapes:
    """The shape of each tensor that a config means."""
    from converters.config import layout
    from converters.plan.rules import bound_rules, theirs_shapes

    resolved = layout.resolve(family.config.to_ours(config, family.name))
    return theirs_shapes(bound_rules(family, resolved), family.dims(resolved), family.tensors(resolved))


def _files(family: str) -> Iterator[tuple[str, bytes]]:
    config, weights = _trained(family) if (TRAINED / family).is_dir() else _hot(family)
    yield "config.json", config
    yield "generation_config.json", _text({"bos_token_id": 256, "eos_token_id": 257, "do_sample": False})
    yield "tokenizer.json", _text(_tokenizer())
    fields = json.loads(config)
    yield "tokenizer_config.json", _text(_tokenizer_config(next((fields[k] for k in LENGTHS if k in fields), 512)))
    yield "model.safetensors", weights


def _trained(family: str) -> tuple[bytes, bytes]:
    """config.json and model.safetensors that lie in this package."""
    return (TRAINED / family / "config.json").read_bytes(), (TRAINED / family / "model.safetensors").read_bytes()


def _hot(family: str) -> tuple[bytes, bytes]:
    """config.json and model.safetensors of a hot model."""
    config, shapes, sample = _of_family(family)
    draw = random.Random(20)
    halves = {key for key in shapes if sample and key.endswith(sample.bfloat16)}
    weights = [_values(_numbers(draw, key, shape, sample), half=key in halves) for key, shape in shapes.items()]
    header = build_header((key, "BF16" if key in halves else "F32", shape) for key, shape in shapes.items())
    return _text(config), header + b"".join(weights)


def _text(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _numbers(draw: random.Random, key: str, shape: tuple[int, ...], sample: "Sample | None") -> list[float]:
    """Norms 1 ± 0.2, biases ± 0.2, matrices by their inputs, q and k half as much again; scales as the family says."""
    if key.endswith("bias"):
        return [draw.uniform(-0.2, 0.2) for _ in range(shape[0])]
    if not shape:
        return [1 + draw.uniform(-0.2, 0.2)]
    if len(shape) == 1:
        reach = next((r for end, r in sample.reach.items() if key.endswith(end)), None) if sample else None
        if sample is None or reach is None:
            return [1 + draw.uniform(-0.2, 0.2) for _ in range(shape[0])]
        signs = (-1, 1) if key.endswith(sample.signed) else (1,)
        return [draw.choice(signs) * draw.uniform(*reach) for _ in range(shape[0])]
    most = (1.5 if ("q_proj" in key or "k_proj" in key) else 1.0) * (3 / shape[1]) ** 0.5
    return [draw.uniform(-most, most) for _ in range(shape[0] * shape[1])]


def _values(numbers: list[float], *, half: bool) -> bytes:
    """Numbers as little-endian float32, or as bfloat16: the upper half of it."""
    values = array("f", numbers)
    if values.itemsize != 4:
        raise OSError("this platform has no 4-byte float")
    if array("H", b"\x01\x00")[0] != 1:
        values.byteswap()
    data = values.tobytes()
    return b"".join(data[k + 2 : k + 4] for k in range(0, len(data), 4)) if half else data


def _byte_characters() -> list[str]:
    """The printable character that stands for each byte in byte-level tokenizers (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(moved)) for byte in range(256)]


def _tokenizer() -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 256 + k, "content": s, **flags, "special": True} for k, s in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {character: byte for byte, character in enumerate(_byte_characters())},
            "merges": [],
        },
    }


def _tokenizer_config(length: int) -> dict[str, Any]:
    names = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "pad_token": SPECIAL[2]}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, **names}
