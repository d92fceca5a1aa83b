"""The name of the form that a config.json is of, for models that transformers does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# classes that transformers does not have, of models whose model_type is that of several programs
OWN_CLASSES = {"NgptLMHeadModel": "ngpt-joeli"}


def form_of(config: Mapping[str, Any]) -> str:
    """The name of the form that a config.json is of: its model_type, or what its class says."""
    classes = config.get("architectures")
    model = config.get("model")
    if not config.get("model_type") and isinstance(model, dict) and model.get("name") == "normalized":
        return "ngpt-olmo"
    named = [OWN_CLASSES[name] for name in OWN_CLASSES if isinstance(classes, list) and name in classes]
    return named[0] if named else str(config.get("model_type"))
