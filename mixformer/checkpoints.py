"""Reading weights that earlier generations and DeepSpeed wrote: their key names and folders.

Weights are always saved in the current form.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mixformer.errors import CheckpointError

# The first generation's MLP.
MLP_NAMES = {r"\.mlp\.fc_in\.": ".mlp.fc1.", r"\.mlp\.fc_out\.": ".mlp.fc2."}

_STATES = "-model_states.pt"


def phi_msft_names(n_layer: int) -> dict[str, str]:
    """Patterns of the names in `phi-msft` checkpoints with n_layer blocks, and what they are called now."""
    blocks = {rf"^transformer\.h\.{i}\.": f"layers.{i + 1}." for i in range(n_layer)}
    return {r"^transformer\.embd\.": "layers.0.", **blocks, r"^lm_head\.": f"layers.{n_layer + 1}."}


def legacy_names(n_layer: int) -> dict[str, str]:
    """Patterns of all names of earlier generations; none of them matches a current name."""
    return {**phi_msft_names(n_layer), **MLP_NAMES}


def renamed(state_dict: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """`state_dict` under current names, without the rotary frequencies that the first generation saved."""
    result = {}
    for key, tensor in state_dict.items():
        if key.endswith("rotary_emb.inv_freq"):
            continue
        for pattern, replacement in names.items():
            key = re.sub(pattern, replacement, key)
        result[key] = tensor
    return result


def deepspeed_state_dict(folder: Path) -> dict[str, Tensor] | None:
    """The weights in a DeepSpeed folder, or None if `folder` is not one.

    Either `mp_rank_00_model_states.pt`, with the weights under "module", or one `layer_NN-model_states.pt` per layer of
    a pipeline. The folder may also be the one above, whose file `latest` names the step.

    Raises:
        CheckpointError: for weights that are sharded over processes (ZeRO stage 3, tensor parallelism), or a file that
            holds more than tensors and plain values.
    """
    latest = folder / "latest"
    if latest.is_file():
        folder = folder / latest.read_text().strip()
    if not folder.is_dir() or not any(folder.glob("*model_states.pt")):
        return None
    sharded = [*folder.glob("*zero_pp_rank_*model_states.pt"), *folder.glob("mp_rank_0[1-9]_model_states.pt")]
    if sharded:
        raise CheckpointError(
            f"{folder} holds weights sharded over processes ({sharded[0].name}): gather them first "
            "with zero_to_fp32.py, which DeepSpeed wrote into the same folder."
        )
    whole = folder / "mp_rank_00_model_states.pt"
    layers = sorted(folder.glob(f"layer_*{_STATES}"))
    if layers:
        return {f"layers.{_number(f)}.{key}": tensor for f in layers for key, tensor in _read(f).items()}
    if not whole.is_file():
        raise CheckpointError(f"{folder} looks like a DeepSpeed folder, but has no {whole.name}.")
    state = _read(whole)
    if "module" not in state:
        raise CheckpointError(f'{whole} has no weights under "module", only {sorted(state)}.')
    return {key.removeprefix("module."): tensor for key, tensor in state["module"].items()}


def _number(file: Path) -> int:
    found = re.fullmatch(rf"layer_(\d+){_STATES}", file.name)
    if found is None:
        raise CheckpointError(f"{file} is sharded over processes: only layer_NN{_STATES} files can be read.")
    return int(found.group(1))


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds objects that only its own code could load, which is not run: {error}"
        ) from error
