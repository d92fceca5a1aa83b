"""Opening a checkpoint: its form, its config, and the headers of its weight files. No weights are read."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.checkpoint.checkpoint import Checkpoint, FileState, StoredTensor
from converters.checkpoint.file_forms import find_form, titles
from converters.checkpoint.json_files import read_json
from converters.checkpoint.regular_files import check_folder, check_regular
from converters.checkpoint.safetensors_header import read_header
from converters.checkpoint.users_word import HEADS, VALUES, with_n_head, with_values
from converters.checkpoint.weight_files import SINGLE, check_index, distributed, holds_weights, weight_files
from converters.errors import ConfigRefused, CoverageRefused, UnsafeFile, UsageError
from converters.generations.configs import SDK, WORDS, current_config, generation_of
from converters.generations.keys import current_names, depth_of
from converters.generations.wrappers import find_wrapping

TORCHTUNE = "-torchtune"
TUNED = ("llama", "mistral", "qwen2")  # model types that are read under torchtune's names
OF_TORCHTUNE = re.compile(r"\.(sa_norm|mlp_norm)\.scale$|\.(attn|mlp)\.\w+\.(lora_[ab]\.weight|magnitude)$")
OF_TRANSFORMERS = "model.embed_tokens.weight"


def open_checkpoint(source: Path, *, dequantize: bool = False) -> Checkpoint:
    """Opens a model, whatever form it comes in: see `converters.checkpoint.file_forms`.

    dequantize: quantised tensors may be converted to float32, which is a lossy step. A source that does not say its
    number of heads has the one that was said: see `converters.checkpoint.users_word`.

    Raises:
        UsageError: there is no such folder or file.
        ConfigRefused: its config is missing or not a JSON object.
        UnsafeFile: a weight file or the index is broken, or they contradict each other.
    """
    found = find_form(source)
    checkpoint = found.form.read(found.path, dequantize) if found else open_folder(source)
    return _of_today(with_values(with_n_head(_by_torchtune(checkpoint), HEADS.get()), VALUES.get()))


def _by_torchtune(stored: Checkpoint) -> Checkpoint:
    """A model with the config.json of transformers and torchtune's key names, as its dialect; others as they are.

    Where keys of transformers are among them it stays one of transformers, which refuses the odd key by its name.

    Raises:
        ConfigRefused: it is of another model type than those that are read.
        CoverageRefused: it holds an adapter.
    """
    named = [key for key in stored.tensors if OF_TORCHTUNE.search(key)]
    said = str(stored.config.get("model_type"))
    if not named or said.endswith(TORCHTUNE) or any(key.endswith(OF_TRANSFORMERS) for key in stored.tensors):
        return stored
    if adapters := [key for key in named if not key.endswith(".scale")]:
        raise CoverageRefused(
            f"{stored.stored[0]} holds the adapter (LoRA) {adapters[0]}, not a whole model; give the file of the merged"
            f" model that torchtune's recipe wrote beside it (model-00001-of-00001.bin)"
        )
    if said not in TUNED:
        raise ConfigRefused(
            f"{stored.stored[0]} has torchtune's key names ({named[0]}) and its config.json model_type {said!r}; such"
            f" names are read for {', '.join(TUNED)}. Save it with torchtune's FullModelHFCheckpointer instead"
        )
    return replace(stored, config={**stored.config, "model_type": said + TORCHTUNE})


def _of_today(stored: Checkpoint) -> Checkpoint:
    """A MixFormer of any generation with the config and the key names of today, without wrappers; others as they are.

    Raises:
        ConfigRefused, CoverageRefused: two fields are one field, or two keys are one tensor.
    """
    generation = generation_of(stored.config)
    if generation is None:
        return stored
    config, wrapping = current_config(stored.config), find_wrapping(stored.tensors)
    own = {wrapping.own(key): tensor for key, tensor in stored.tensors.items()}
    names = current_names(own, depth_of(config))
    tensors = {names[key]: replace(tensor, key=names[key]) for key, tensor in own.items()}
    notes = stored.notes if generation == SDK else (*stored.notes, f"config.json is that of {WORDS[generation]}")
    return replace(stored, config=config, tensors=tensors, notes=notes, generation=generation)


def open_folder(source: Path) -> Checkpoint:
    """Opens a folder that holds `config.json` and weights as safetensors, or else as pytorch_model.bin.

    Raises:
        UsageError, ConfigRefused, UnsafeFile: as `open_checkpoint`.
    """
    folder = _folder(source)
    check_folder(folder)
    _refuse_adapter(folder)
    if not holds_weights(folder) and (why := distributed(folder)):
        raise UnsafeFile(f"{folder} holds no model: {why}")
    config = read_config(folder)
    stored, notes = weight_files(folder)
    files = tuple(readable(file) for file in stored)
    states = tuple(FileState.of(file) for file in files)
    tensors: dict[str, StoredTensor] = {}
    for shard, file in enumerate(files):
        for tensor in tensors_of(file, shard):
            if tensor.key in tensors:
                was = tensors[tensor.key].file.name
                raise UnsafeFile(f"{tensor.key!r} is in {was} and in {file.name}, expected in one file")
            tensors[tensor.key] = tensor
    if not tensors:
        raise CoverageRefused(f"{folder} holds no tensors")
    tied = config.get("tie_word_embeddings", config.get("model_type") == "gpt2") is True
    check_index(folder, {key: stored[tensor.shard].name for key, tensor in tensors.items()}, tied=tied)
    return Checkpoint(folder, config, tensors, files, stored, notes, states)


def tensors_of(file: Path, shard: int) -> Iterator[StoredTensor]:
    """The tensors of a `readable` file, which is the `shard`-th of its checkpoint.

    Raises:
        UnsafeFile: the file is broken.
    """
    if file.suffix == ".safetensors" or not _is_zip(file):
        for entry in read_header(file).tensors:
            yield StoredTensor(entry.key, entry.key, entry.dtype, entry.shape, file, shard, entry.begin)
        return
    from converters.checkpoint.torch_zip import read_zip

    for found in read_zip(file):
        yield StoredTensor(found.key, found.key, found.dtype, found.shape, file, shard, found.begin, found.strides)


def readable(file: Path) -> Path:
    """The file itself, or for a legacy pickle a temporary safetensors file with the same tensors."""
    if file.suffix == ".safetensors" or _is_zip(file):
        return file
    from converters.checkpoint.torch_legacy import as_safetensors

    return as_safetensors(file)


def _is_zip(file: Path) -> bool:
    from converters.checkpoint.torch_zip import is_zip

    return is_zip(file)


def _refuse_adapter(folder: Path) -> None:
    if not (folder / "adapter_config.json").is_file():
        return
    if holds_weights(folder):
        raise ConfigRefused(
            f"{folder} holds a model and an adapter (LoRA), and its files do not say whether the model has the adapter"
            f" in it; where it has, as after torchtune's recipes, remove adapter_config.json, else merge them first"
        )
    raise ConfigRefused(
        f"{folder} is an adapter (LoRA), not a model; merge it first: in peft, `model.merge_and_unload()` and"
        f" `save_pretrained`"
    )


def _folder(source: Path) -> Path:
    if source.is_file():
        if source.name not in (SINGLE, "config.json"):
            _check_zip(source)
            raise UsageError(
                f"{source} is not a file that can be read; give a folder with config.json and {SINGLE}, or one of:"
                f" {'; '.join(titles())}"
            )
        return source.parent
    if source.exists() and not source.is_dir():
        check_regular(source)
    if not source.is_dir():
        raise UsageError(f"{source} does not exist; expected a folder with config.json and {SINGLE}")
    return source


def _check_zip(file: Path) -> None:
    """Raises UnsafeFile for a broken zip: what is in it cannot be told, so it may be one that is read."""
    if _is_zip(file):
        from converters.checkpoint.torch_zip import read_saved

        read_saved(file)


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a folder as an object.

    Raises:
        ConfigRefused: it is missing, unreadable, or not a JSON object with unique keys.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ConfigRefused(f"{folder} has no config.json, which says the sizes of the model; copy it there")
    try:
        return read_json(path)
    except UnsafeFile as error:
        raise ConfigRefused(str(error)) from None
