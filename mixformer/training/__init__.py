"""What training an nGPT needs besides an optimiser: matrices whose rows and columns keep length 1."""

from __future__ import annotations

from mixformer.training.callbacks import NormalizeMatrices, lightning_callback
from mixformer.training.normalization import matrices_along_width, normalize_matrices

__all__ = ["NormalizeMatrices", "lightning_callback", "matrices_along_width", "normalize_matrices"]
