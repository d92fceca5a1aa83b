"""``describe``: the content of a golden file, and the faults that it cannot show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from golden.evidence.golden_file import GoldenEvidence, read_golden
from golden.verdict import finite_or_none

NO_WEIGHTS = "faults that no logit shows: unused weights, key biases without rotary embeddings (L1 needs the reference)"
"""Faults that no golden file shows, because it holds no weights."""
BELOW_SKETCH = (
    "an error smaller than 1e-10 of the logits' std after averaging over the vocabulary, where a full golden file has "
    "1e-10 for each position and id",
    "which token ids a fault touches: columns are sums over the vocabulary",
)
"""Faults that a compact golden file does not show besides."""


def describe(golden_file: Path | str) -> dict[str, Any]:
    """The content of a golden file as JSON-ready values.

    Raises:
        GoldenFileError: it cannot be read, or is no golden file.
    """
    path = Path(golden_file)
    golden = read_golden(path)
    header = golden.header
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "form": header["form"],
        "family": header["family"],
        "dtype": header["dtype"],
        "vocab": header["vocab"],
        "prompts": [{"name": prompt.name, "tokens": len(prompt.ids)} for prompt in golden.prompts],
        "tables": dict(golden.table_sizes),
        "floors": {
            "float32": {"rms": header["spread"]},
            **{dtype: _floor(values) for dtype, values in header["calibrations"].items()},
        },
        "greedy_tokens": len(golden.continuation().ids),
        "hidden_states": bool(header.get("stages")),
        "hashes": dict(header["hashes"]),
        "versions": dict(header["versions"]),
        "cannot_see": list(_blind_spots(golden)),
    }


def _floor(values: dict[str, Any]) -> dict[str, Any]:
    return {name: finite_or_none(values[name]) for name in ("rms", "max", "kl")} | {"probes": len(values["probes"])}


def _blind_spots(golden: GoldenEvidence) -> tuple[str, ...]:
    return (NO_WEIGHTS,) if golden.sketch is None else (NO_WEIGHTS, *BELOW_SKETCH)
