"""Writing native files: llama2.c's `model.bin`, GGUF, and what torch.save writes.

A llama2.c file is a header and float32 tensors in a row, which is what the engine writes anyway; so is a GGUF file, of
other dtypes. A ckpt.pt and a bare
state dict are zips that torch.save makes, of the safetensors file that was written first; torch is imported for that.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.checkpoint.json_files import as_bytes
from converters.engine.shard_layout import Shard, lay_out
from converters.engine.shard_writing import Writing
from converters.errors import NotInvertible, UsageError
from converters.families.shared.sinusoids import COSINES, SINES
from converters.forms import gguf_writing, modded_nanogpt_file, nanogpt_file, nvidia_ngpt_file
from converters.forms.evintunador_file import CONFIG
from converters.forms.llama2c_file import HEADERS, MAGIC, SIZES, TABLES, keys_in_order
from converters.plan.plan import Plan
from converters.plan.rules import TargetTensor

if TYPE_CHECKING:
    import torch

ARGUMENTS = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout")
NVIDIA_ARGUMENTS = ("use_nGPT", *ARGUMENTS[:4], "base_scale", *ARGUMENTS[4:])


@dataclass(frozen=True)
class NativeForm:
    """A form that is written: its one file, how the engine lays it out, and what is done to that afterwards.

    left_out: what the programs of that form write beside a model, and we do not. notes: what of this model is left out.
    beside: small files that they do.
    """

    name: str
    lay_out: Callable[[Plan], tuple[Shard, ...]]
    finish: Callable[[Plan, Path], None] | None = None
    left_out: str = ""
    notes: Callable[[Plan], Sequence[str]] = lambda plan: ()
    beside: Callable[[Plan], dict[str, bytes]] | None = None

    def small(self, plan: Plan) -> dict[str, bytes]:
        """The files beside the one of the form."""
        return self.beside(plan) if self.beside else {}

    def finished(
        self, plan: Plan, folder: Path, digests: Mapping[str, str | None], how: Writing
    ) -> dict[str, str | None]:
        """Completes the file of the engine; returns its sha256, None where nothing is hashed."""
        if self.finish is None:
            return dict(digests)
        self.finish(plan, folder)
        with (folder / self.name).open("rb") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask
            if how.fsync:
                os.fsync(file.fileno())
            return {self.name: hashlib.file_digest(file, "sha256").hexdigest() if how.hash else None}


def native_form(family: str) -> NativeForm:
    """How a family writes its own form.

    Raises:
        UsageError: the family has no native form that is written.
    """
    if family not in FORMS:
        known = ", ".join(f"--to {name}" for name in FORMS)
        raise UsageError(f"--format native is for {known}; {family} is written as a safetensors folder")
    return FORMS[family]


def _llama2c(plan: Plan) -> tuple[Shard, ...]:
    config = {"version": 0, **plan.config}
    tensors = {tensor.key: tensor for tensor in plan.tensors}
    if config["version"] == 0:
        tensors |= {key: table for key, table in _tables(config).items() if key not in tensors}
    for tensor in tensors.values():
        if tensor.dtype != "F32":
            raise NotInvertible(
                f"{tensor.key} is {tensor.dtype}, but llama2.c holds float32 only: pass --dtype float32"
            )
    ordered = [tensors[key] for key, _ in keys_in_order(config)]
    return (Shard("model.bin", _header(config), tuple(ordered)),)


def _header(config: Mapping[str, Any]) -> bytes:
    sizes, tied = [config[name] for name in SIZES], bool(config["tie_word_embeddings"])
    if config["version"] == 0:
        vocab = SIZES.index("vocab_size")
        sizes[vocab] = sizes[vocab] if tied else -sizes[vocab]
        return struct.pack("<7i", *sizes)
    return (struct.pack("<2I7i", MAGIC, config["version"], *sizes) + bytes([tied])).ljust(HEADERS[1], b"\0")


def _tables(config: Mapping[str, Any]) -> dict[str, TargetTensor]:
    """The rotary tables by their formula, for a model that had none."""
    positions, half = config["seq_len"], config["dim"] // config["n_heads"] // 2
    views = (rule.view("F32", f"{positions} {half} 10000.0 -") for rule in (COSINES, SINES))
    pairs = zip(TABLES, views, strict=True)
    return {key: TargetTensor(key, view.dtype, view.shape, view.pieces, ()) for key, view in pairs}


def _one_file(plan: Plan) -> tuple[Shard, ...]:
    return lay_out(plan, 2**62)


def _nanogpt(plan: Plan, folder: Path) -> None:
    """Replaces the safetensors file by a ckpt.pt that nanoGPT's sample.py and train.py can load."""
    weights = _loaded(folder)
    _share(weights)
    _save(_content(plan, weights, ARGUMENTS, nanogpt_file.KEPT), folder / "ckpt.pt")


def _nvidia(plan: Plan, folder: Path) -> None:
    """Replaces the safetensors file by a ckpt.pt with what NVIDIA's class needs: `model` and `model_args`."""
    _save(_content(plan, _loaded(folder), NVIDIA_ARGUMENTS, nvidia_ngpt_file.KEPT), folder / "ckpt.pt")


def _modded(plan: Plan, folder: Path) -> None:
    """Replaces the safetensors file by what the training script of alxndrTL's nGPT saves, as far as it is known."""
    known = {name: plan.config[name] for name in modded_nanogpt_file.KEPT if name in plan.config}
    _save({"step": 0, **known, "model": _loaded(folder)}, folder / "state_step.pt")


def _state_dict(plan: Plan, folder: Path) -> None:
    """Replaces the safetensors file by a bare state dict."""
    _save(_loaded(folder), folder / "model.pt")


def _pth(plan: Plan, folder: Path) -> None:
    """Replaces the safetensors file by the model.pth of evintunador's nGPT."""
    _save(_loaded(folder), folder / "model.pth")


def _own_config(plan: Plan) -> bytes:
    """Its model_config.json, which does not say what it is a config of."""
    return as_bytes({name: value for name, value in plan.config.items() if name not in ("model_type", "dtype")})


def _content(
    plan: Plan, weights: "dict[str, torch.Tensor]", arguments: Sequence[str], kept: Sequence[str]
) -> dict[str, Any]:
    """`model`, `model_args`, and what is known of the training run."""
    said, known = ({name: plan.config[name] for name in names if name in plan.config} for names in (arguments, kept))
    return {"model": weights, "model_args": said, **known}


def _loaded(folder: Path) -> "dict[str, torch.Tensor]":
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def _save(content: Mapping[str, Any], path: Path) -> None:
    """Writes a file of torch and takes the safetensors file away."""
    import torch

    torch.save(content, path)
    (path.parent / "model.safetensors").unlink()


def _share(weights: "dict[str, torch.Tensor]") -> None:
    """Head and embedding are one tensor in nanoGPT, so they are stored once."""
    head = next((key for key in weights if key.endswith("lm_head.weight")), None)
    if head is not None:
        weights[head] = weights[f"{head.removesuffix('lm_head.weight')}transformer.wte.weight"]


GGUF = NativeForm(gguf_writing.NAME, gguf_writing.lay_out, notes=gguf_writing.notes)
FORMS = {
    "gpt2-gguf": GGUF,
    "llama-gguf": GGUF,
    "ngpt-evintunador": NativeForm("model.pth", _one_file, _pth, beside=lambda plan: {CONFIG: _own_config(plan)}),
    "llama2c": NativeForm("model.bin", _llama2c),
    "nanogpt": NativeForm("ckpt.pt", _one_file, _nanogpt, "the state of the optimizer"),
    "ngpt-lucidrains": NativeForm("model.pt", _one_file, _state_dict, "value_residual, which a .pt cannot say"),
    "ngpt-modded-nanogpt": NativeForm(
        "state_step.pt", _one_file, _modded, ", ".join(modded_nanogpt_file.LEFT_OUT.values())
    ),
    "ngpt-nvidia": NativeForm("ckpt.pt", _one_file, _nvidia, ", ".join(nvidia_ngpt_file.LEFT_OUT.values())),
    "ngpt-tutorial": NativeForm("model.pt", _one_file, _state_dict, "the number of heads, which a .pt cannot say"),
}
