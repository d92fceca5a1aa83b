"""Writing GGUF files of LLaMA and GPT-2: a header by the `gguf` package, then the tensors, by the engine.

Matrices keep their dtype. Norms, biases and positions are float32, because llama.cpp computes with no other; widening
loses nothing. Each tensor begins at a multiple of 32 bytes. Metadata hold floats as float32, so a number that this
changes is refused. Source: `constants.py` and `gguf_writer.py` of the `gguf` package 0.19.
"""

import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.algebra.boxes import whole
from converters.checkpoint.gguf_header import shortest
from converters.engine.shard_layout import Shard
from converters.errors import NotInvertible, TokenizerRefused, UnsafeFile
from converters.families.shared.gguf_fields import frequency_factors
from converters.forms.gguf_file import EMBEDDING, FREQUENCIES, SCALE
from converters.forms.gguf_vocabulary import Vocabulary, vocabulary_of
from converters.plan.known_buffers import Table
from converters.plan.plan import Plan
from converters.plan.rules import TargetTensor, casted

if TYPE_CHECKING:
    from gguf import GGUFWriter

NAME, ALIGNMENT = "model.gguf", 32
WIDE = ("position_embd.weight",)  # matrices that llama.cpp's own converter writes as float32
KINDS = {"F32": 0, "F16": 1, "BF16": 32}  # dtype -> general.file_type of a file that is mostly that
KEY_LENGTH = "llama.attention.key_length"
SAME_LENGTH = ("llama.attention.value_length", "llama.rope.dimension_count")
PREFIXES = ("llama.", "gpt2.")
SPECIAL = ("bos", "eos", "padding")
TOKEN_ID = "tokenizer.ggml.{}_token_id"


def lay_out(plan: Plan) -> tuple[Shard, ...]:
    """The one file of a plan to `llama-gguf` or `gpt2-gguf`.

    Raises:
        NotInvertible: a tensor or a number of the config that the file cannot hold.
        UnsafeFile: the `gguf` package is not installed.
    """
    found = [_tensor(tensor) for tensor in plan.tensors]
    if SCALE in plan.config and FREQUENCIES not in {tensor.key for tensor in found}:
        found.append(_factors(plan))
    return (Shard(NAME, _header(plan, found), tuple(_aligned(found))),)


def notes(plan: Plan) -> list[str]:
    """What of a model the file does not hold."""
    said = []
    for name in SPECIAL:
        ids = plan.config.get(TOKEN_ID.format(name))
        if isinstance(ids, list):
            said.append(f"{name}_token_id {ids} but for the first")
    try:
        _vocabulary(plan)
    except TokenizerRefused as why:
        said.append(f"the tokenizer, tokenizer.ggml.model is none: {why}")
    return said


def _tensor(tensor: TargetTensor) -> TargetTensor:
    """A tensor in the dtype that it has in the file."""
    if tensor.dtype not in KINDS:
        raise NotInvertible(
            f"{tensor.key} is {tensor.dtype}, but llama.cpp has models of float32, float16 and bfloat16 only: pass"
            " --dtype float32"
        )
    if (len(tensor.shape) > 1 and tensor.key not in WIDE) or tensor.dtype == "F32":
        return tensor
    if tensor.cast_from:
        raise NotInvertible(
            f"{tensor.key} would be rounded to {tensor.dtype} and be written as float32, which llama.cpp needs: convert"
            f" to a folder with --dtype first, then that folder with --format gguf"
        )
    return casted([tensor], "F32")[0]


def _factors(plan: Plan) -> TargetTensor:
    """LLaMA 3.1's divisors of the frequencies, for a model that is no GGUF yet."""
    numbers = frequency_factors(_resolved(plan))
    view = Table(FREQUENCIES, frequency_factors).view("F32", struct.pack(f"<{len(numbers)}f", *numbers).hex())
    return TargetTensor(FREQUENCIES, view.dtype, view.shape, view.pieces, ())


def _resolved(plan: Plan) -> Mapping[str, Any]:
    """The resolved config of the MixFormer that the target's config means."""
    from converters.config.layout import resolve
    from converters.family import get_family

    return resolve(get_family(plan.to).config.to_ours(plan.config, plan.to))


def _aligned(tensors: Sequence[TargetTensor]) -> Iterator[TargetTensor]:
    """Tensors, each followed by the zeros up to the next multiple of the alignment."""
    for tensor in tensors:
        yield tensor
        if gap := -tensor.nbytes % ALIGNMENT:
            yield TargetTensor(f"zeros after {tensor.key}", "U8", (gap,), (whole(None, (gap,)),), ())


def _header(plan: Plan, tensors: Sequence[TargetTensor]) -> bytes:
    """Everything up to the first tensor. The package writes to files only."""
    try:
        import gguf
        import numpy as np
    except ImportError:
        raise UnsafeFile("--format gguf needs the gguf package; install it with: pip install gguf") from None
    writer = gguf.GGUFWriter(None, plan.to.removesuffix("-gguf"))
    embedding = next(tensor for tensor in tensors if tensor.key == EMBEDDING)
    writer.add_file_type(KINDS[embedding.dtype])
    _write_config(writer, plan.config)
    _write_vocabulary(writer, plan)
    for tensor in tensors:
        kind = gguf.GGMLQuantizationType[tensor.dtype]
        writer.add_tensor_info(tensor.key, tensor.shape, np.dtype(np.float32), tensor.nbytes, kind)
    with tempfile.TemporaryDirectory() as folder:
        writer.write_header_to_file(Path(folder) / NAME)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        data = (Path(folder) / NAME).read_bytes()
    return data + bytes(-len(data) % ALIGNMENT)


def _write_config(writer: "GGUFWriter", config: Mapping[str, Any]) -> None:
    """The fields of the config that are metadata; the others are seen from the tensors."""
    said = {name: value for name, value in config.items() if name.startswith(PREFIXES)}
    if KEY_LENGTH in said:
        said |= dict.fromkeys(SAME_LENGTH, said[KEY_LENGTH])
    for name, value in said.items():
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, _single(name, value))
        elif isinstance(value, str):
            writer.add_string(name, value)


def _single(name: str, value: float) -> float:
    if shortest(value) != value:
        raise NotInvertible(f"{name} is {value!r}, which a GGUF file would round to {shortest(value)!r} (float32)")
    return value


def _vocabulary(plan: Plan) -> Vocabulary:
    """The tokenizer beside the source.

    Raises:
        TokenizerRefused: it is not written.
    """
    rows = next(tensor.shape[0] for tensor in plan.tensors if tensor.key == EMBEDDING)
    found = vocabulary_of(plan.source.folder, rows)
    for name, number in (("bos", found.bos), ("eos", found.eos)):
        said = _first(plan.config.get(TOKEN_ID.format(name)))
        if number is not None and said not in (None, number):
            raise TokenizerRefused(f"it puts the token {number} around a text as {name}, and config.json says {said}")
    return found


def _first(ids: Any) -> int | None:
    """One id, the first of several."""
    one = ids[0] if isinstance(ids, list) and ids else ids
    return one if type(one) is int and one >= 0 else None


def _write_vocabulary(writer: "GGUFWriter", plan: Plan) -> None:
    """The tokenizer, or that there is none; special ids in either case."""
    said = {name: _first(plan.config.get(TOKEN_ID.format(name))) for name in SPECIAL}
    try:
        found = _vocabulary(plan)
    except TokenizerRefused:
        writer.add_tokenizer_model("none")
    else:
        said |= {"bos": said["bos"] if found.bos is None else found.bos, "unknown": found.unknown}
        said["eos"] = said["eos"] if found.eos is None else found.eos
        _write_tokens(writer, found)
    for name, number in said.items():
        if number is not None:
            writer.add_uint32(TOKEN_ID.format(name), number)


def _write_tokens(writer: "GGUFWriter", found: Vocabulary) -> None:
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.split or "default")
    writer.add_token_list(found.tokens)
    writer.add_token_types(found.kinds)
    if found.scores:
        writer.add_token_scores(found.scores)
    else:
        writer.add_token_merges(found.merges)
    writer.add_add_bos_token(found.bos is not None)
    writer.add_add_eos_token(found.eos is not None)
    if found.template:
        writer.add_chat_template(found.template)
