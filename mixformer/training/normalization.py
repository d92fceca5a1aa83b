"""nGPT's matrices are made of vectors of length 1 along the width of the model (Loshchilov et al., arXiv:2410.01131).

An optimiser's step changes the lengths, so they are set back after every step. Nothing else in this package does so:
the values of a checkpoint are its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from mixformer.blocks.ngpt import NGPTBlock
from mixformer.blocks.norms.l2 import unit
from mixformer.errors import InputError
from mixformer.precision import accumulation_dtype

# Matrices of a block, and the axis along which the width of the model runs.
BLOCK_MATRICES = {"attn.Wqkv": 1, "attn.out_proj": 0, "mlp.fc1": 1, "mlp.fc2": 0}


def matrices_along_width(model: nn.Module) -> Iterator[tuple[str, Tensor, int]]:
    """Key, weight and axis of every matrix of an nGPT whose vectors along that axis have the width of the model.

    The axis is 1 (rows) for the embedding, `Wqkv`, `fc1` and the head, and 0 (columns) for `out_proj` and `fc2`.

    Args:
        model: A MixFormer, or a module that holds one as `model` or `module`.

    Raises:
        InputError: if there is no MixFormer with blocks of class "ngpt".
    """
    layers = list(_mixformer_in(model))
    blocks = [(i, layer) for i, layer in enumerate(layers) if isinstance(layer, NGPTBlock)]
    if not blocks:
        raise InputError(f"{type(model).__name__} has no blocks of class 'ngpt', whose matrices could be normalised.")
    yield "layers.0.wte.weight", layers[0].wte.weight, 1
    for i, block in blocks:
        for name, axis in BLOCK_MATRICES.items():
            part, _, matrix = name.partition(".")
            linear = getattr(getattr(block, part), matrix, None)
            if linear is not None:
                yield f"layers.{i}.{name}.weight", linear.weight, axis
    yield f"layers.{len(layers) - 1}.linear.weight", layers[-1].linear.weight, 1


def _mixformer_in(model: nn.Module) -> Iterable[nn.Module]:
    """The layers of a MixFormer, or of the one inside a wrapper (Lightning's module, DistributedDataParallel)."""
    while not hasattr(model, "layers"):
        inner = getattr(model, "module", None) or getattr(model, "model", None)
        if not isinstance(inner, nn.Module):
            return ()
        model = inner
    return model.layers


@torch.no_grad()
def normalize_matrices(model: nn.Module) -> None:
    """Set every row of `wte`, `Wqkv`, `fc1` and the head, and every column of `out_proj` and `fc2`, to length 1.

    Lengths are taken in float32, in float64 for float64 weights. A row of zeros stays zeros. Call it after each step of
    the optimiser, and once before the first.

    Args:
        model: A MixFormer whose blocks are of class "ngpt", or a module that holds one as `model` or `module`.

    Raises:
        InputError: if there is none.
    """
    for _, weight, axis in matrices_along_width(model):
        weight.copy_(unit(weight.to(accumulation_dtype(weight.dtype)), dim=axis))
