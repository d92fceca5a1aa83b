"""`normalize_matrices` after every step, as a callback of transformers' Trainer and of Lightning."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import TrainerCallback

from mixformer.errors import MissingPackageError
from mixformer.training.normalization import normalize_matrices


class NormalizeMatrices(TrainerCallback):
    """Of transformers' Trainer: `Trainer(..., callbacks=[NormalizeMatrices()])`."""

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **kwargs: Any
    ) -> None:
        """Begin with matrices of length 1."""
        normalize_matrices(model)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the optimiser's step."""
        normalize_matrices(kwargs["model"])


def lightning_callback() -> Any:
    """Of Lightning: `Trainer(..., callbacks=[lightning_callback()])`, for a module that holds the MixFormer as `model`.

    Raises:
        MissingPackageError: if Lightning is not installed.
    """
    try:
        from lightning.pytorch import Callback
    except ImportError as error:
        raise MissingPackageError(f"lightning_callback needs Lightning: pip install lightning ({error})") from error

    class LightningNormalizeMatrices(Callback):
        def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
            normalize_matrices(pl_module)

        def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, *args: Any, **kwargs: Any) -> None:
            normalize_matrices(pl_module)

    return LightningNormalizeMatrices()
