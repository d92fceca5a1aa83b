"""What a file of torch holds, told from its pickle without reading it: so each file is claimed by one form."""

from pathlib import Path

from converters.checkpoint.torch_zip import is_zip, pickle_bytes

NANOGPT, NVIDIA, MODDED, STATE_DICT = "nanogpt", "nvidia", "modded-nanogpt", "state dict"
TORCHTUNE = "torchtune"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # how files from before torch 1.6 begin: a number as a pickle
SCRIPT = (b"model_args", b"iter_num")  # what the train.py of nanoGPT and of NVIDIA save beside the model
OF_NVIDIA = (b"use_nGPT", b"GPTConfig", b".att_c_proj.")
OF_MODDED = (b"qk_scaler.scale", b"optimizer")  # a tensor of alxndrTL's nGPT, and what its script saves beside it
OF_TORCHTUNE = b".sa_norm.scale"
META_PARAMS, CKPT = "params.json", "ckpt.pt"


def kind_of(path: Path) -> str | None:
    """One of the kinds above; None for what torch did not save, and for a shard of Meta's release."""
    if path.suffix == ".pth" and (path.parent / META_PARAMS).is_file():
        return None
    if not is_zip(path):
        return STATE_DICT if _is_legacy(path) else None
    words = pickle_bytes(path)
    if words is None:  # the reader of state dicts says what is wrong; a broken ckpt.pt is known by its name
        return STATE_DICT if path.suffix in (".pt", ".pth") and path.name != CKPT else None
    if all(word in words for word in OF_MODDED):
        return MODDED
    if OF_TORCHTUNE in words:
        return TORCHTUNE
    if not any(word in words for word in SCRIPT):
        return STATE_DICT
    if any(word in words for word in OF_NVIDIA):
        return NVIDIA
    return NANOGPT if b"model_args" in words else STATE_DICT


def _is_legacy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(LEGACY)) == LEGACY
