"""The lit_model.pth of litgpt, with its sizes in model_config.yaml beside it.

The file is a state dict, or holds one under `model`, as after a pretraining or a fine-tuning. The YAML is read by
safe_load, which runs nothing of it, and only as plain values: no aliases, no key twice.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.file_forms import Form
from converters.checkpoint.regular_files import read_regular
from converters.checkpoint.torch_zip import Saved, is_zip, pickle_bytes, read_saved
from converters.errors import ConfigRefused, CoverageRefused, UnsafeFile, UsageError, nearest
from converters.forms.ckpt_content import model_of, widest_dtype

FILE, CONFIG, FAMILY = "lit_model.pth", "model_config.yaml", "llama-litgpt"
ADAPTERS = (f"{FILE}.lora", f"{FILE}.adapter", f"{FILE}.adapter_v2")
OF_ADAPTERS = (".lora_A", ".lora_B", ".adapter_wte.weight", ".gating_factor", ".adapter_bias", ".adapter_scale")
EMBEDDING, HEAD, GROUPED = "transformer.wte.weight", "lm_head.weight", ".attn.attn.weight"
OWN_KEY = b"transformer.h.0.norm_1."
OWN = ("model_type", "tie_word_embeddings", "dtype", "qkv_by_group")  # what reading adds to the fields of the YAML
DEFAULTS = {  # of litgpt's Config, where they are not a LLaMA's
    "mlp_class_name": "GptNeoxMLP",
    "norm_class_name": "LayerNorm",
    "parallel_residual": True,
    "bias": True,
    "rotary_percentage": 0.25,
}
LARGEST_YAML = 50_000  # bytes; litgpt's own have about 2000
DEEPEST = 8  # objects and lists inside one another
MOST_BRACKETS = 200  # each that is open costs pyyaml time at every further one


def recognises(path: Path) -> bool:
    """Whether a file has litgpt's name, or lies beside its YAML and has its keys; an adapter only without a model.

    Beside the YAML may also lie the model.pth of `litgpt convert_from_litgpt`, which has the keys of transformers.
    """
    if path.name in ADAPTERS:
        return not (path.parent / FILE).exists()
    beside = path.suffix == ".pth" and (path.parent / CONFIG).is_file()
    return path.name == FILE or (beside and OWN_KEY in (pickle_bytes(path) or b""))


def read(path: Path, dequantize: bool) -> Checkpoint:
    """Opens a model of litgpt.

    Raises:
        UnsafeFile: the file is broken, or asks for code.
        ConfigRefused: model_config.yaml is missing or unsound, or says another architecture than a LLaMA's.
        CoverageRefused: it holds an adapter, or no embedding or head.
    """
    if path.name in ADAPTERS:
        raise CoverageRefused(_adapter(path, path.suffix[1:]))
    said = _said(path.parent / CONFIG)
    if not is_zip(path):
        raise UnsafeFile(f"{path} is no zip, as torch.save writes since torch 1.6; it may be truncated")
    saved = read_saved(path)
    tensors = _tensors(saved)
    config = {**DEFAULTS, **said, "model_type": FAMILY, **_found(path, said, tensors)}
    whole = isinstance(saved.content, Mapping) and "model" in saved.content
    left = [name for name in ("optimizer", "train_dataloader", "scheduler") if whole and name in saved.content]
    notes = (f"not carried: {', '.join(left)}",) if left else ()
    states = (FileState.of(path),)
    return Checkpoint(path.parent, config, tensors, (path,), (path,), notes, states, said_by=CONFIG)


def _tensors(saved: Saved) -> dict[str, StoredTensor]:
    """The tensors of a state dict, or those under `model`."""
    if isinstance(saved.content, Mapping) and "model" in saved.content:
        tensors = model_of(saved)
    else:
        placed = saved.tensors(saved.content)
        tensors = {
            t.key: StoredTensor(t.key, t.key, t.dtype, t.shape, saved.path, 0, t.begin, t.strides) for t in placed
        }
    for key in tensors:
        if any(part in key for part in OF_ADAPTERS):
            raise CoverageRefused(_adapter(saved.path, key))
    return tensors


def _adapter(path: Path, what: str) -> str:
    return (
        f"{path} holds an adapter ({what}), not a whole model; LoRA is merged by `litgpt merge_lora FOLDER`, which"
        f" writes {FILE} beside it; other adapters have no MixFormer counterpart"
    )


def _found(path: Path, said: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """What the tensors say: rows of the vocabulary, one storage for embedding and head, the order of q, k and v."""
    embedding, head = (_one(path, key, tensors) for key in (EMBEDDING, HEAD))
    rows = said.get("padded_vocab_size")
    return {
        "padded_vocab_size": embedding.shape[0] if rows is None and embedding.shape else rows,
        "tie_word_embeddings": (embedding.begin, embedding.shape) == (head.begin, head.shape),
        "dtype": widest_dtype(tensors),
        **({"qkv_by_group": True} if any(key.endswith(GROUPED) for key in tensors) else {}),
    }


def _one(path: Path, key: str, tensors: Mapping[str, StoredTensor]) -> StoredTensor:
    """The tensor of a key, whatever wraps it."""
    found = next((tensor for name, tensor in tensors.items() if name.endswith(key)), None)
    if found is None:
        raise CoverageRefused(f"{path} holds no {key}{nearest(key, tensors)}, expected in every model of litgpt")
    return found


def _said(path: Path) -> dict[str, Any]:
    """The fields of model_config.yaml.

    Raises:
        ConfigRefused: it is missing, no YAML of plain values, or says another architecture.
    """
    if not path.is_file():
        raise ConfigRefused(f"{path.parent} has no {CONFIG}, which says the sizes of the model; copy it there")
    said = _plain(path, read_regular(path, LARGEST_YAML))
    for name in OWN:
        if name in said:
            raise ConfigRefused(f"{path} has {name} {said[name]!r}, which is no field of litgpt's; remove it")
    kind = said.get("mlp_class_name", DEFAULTS["mlp_class_name"])
    if kind != "LLaMAMLP":
        raise ConfigRefused(
            f"{path} says mlp_class_name {kind!r} (name {said.get('name', '')!r}), and of litgpt's models those with a"
            f" LLaMAMLP are read; run `litgpt convert_from_litgpt` and convert the model.pth that it writes, with the"
            f" config.json of transformers beside it"
        )
    return said


def _plain(path: Path, text: bytes) -> dict[str, Any]:
    """YAML as a mapping of plain values."""
    try:
        import yaml
    except ImportError:
        raise UsageError(f"{path} is YAML, which is read by pyyaml; install it: pip install pyyaml") from None
    if (brackets := text.count(b"[") + text.count(b"{")) > MOST_BRACKETS:
        raise ConfigRefused(f"{path} has {brackets} opening brackets, at most {MOST_BRACKETS} are read")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ConfigRefused(f"{path} has an alias (*name), expected plain values; write the value twice")
        node, found = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigRefused(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ConfigRefused(f"{path} holds no fields by name; expected those of litgpt's Config")
    if odd := [name for name, value in found.items() if not _is_json(value)]:
        kind = type(found[odd[0]]).__name__
        raise ConfigRefused(f"{path} has {odd[0]} with a value of type {kind} that no config.json could hold")
    names = Counter(key.value for key, _ in node.value)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ConfigRefused(f"{path} has {twice[0]} twice; keep one")
    return found


def _is_json(value: Any, depth: int = DEEPEST) -> bool:
    """Whether a value is one that config.json could hold."""
    if isinstance(value, dict):
        return depth > 0 and all(isinstance(name, str) and _is_json(one, depth - 1) for name, one in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_is_json(one, depth - 1) for one in value)
    return value is None or isinstance(value, str) or (isinstance(value, bool | int | float) and abs(value) < 1e300)


FORM = Form("litgpt", f"litgpt's {FILE} with {CONFIG} beside it", (FILE, *ADAPTERS, "*.pth"), recognises, read)
