"""What a reference has beside its weights: its tokenizer, and how text is generated with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from golden.errors import FolderError
from golden.evidence.tokenizer import TokenizerEvidence, read_tokenizer
from golden.models.folders import read_config
from golden.models.loading import silenced
from golden.references import is_native

GENERATION = "generation_config.json"
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
SILENT = ("transformers_version", "_from_model_config", "_commit_hash")


@dataclass(frozen=True)
class Beside:
    """A tokenizer, and the settings of generation that say something; None where a file has no place for them."""

    tokenizer: TokenizerEvidence
    generation: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """As a golden file keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Beside:
        """From what a golden file kept."""
        return cls(TokenizerEvidence(**kept["tokenizer"]), kept["generation"])


def beside_weights(folder: Path) -> Beside:
    """What a reference folder has beside its weights."""
    return Beside(read_tokenizer(folder), generation_settings(folder))


def generation_settings(folder: Path) -> dict[str, Any] | None:
    """What `generate` does by default: generation_config.json, or without it what config.json says, without defaults.

    Raises:
        FolderError: the file cannot be read.
    """
    from converters.config.neutral import says_nothing

    if is_native(folder):
        return None
    config, given = read_config(folder), _read_generation(folder / GENERATION)
    ids = {name: config[name] if name in config else default for name, default in _default_ids(config).items()}
    found = {**ids, **given}
    return {name: value for name, value in found.items() if name not in SILENT and not says_nothing(name, value)}


def _default_ids(config: Mapping[str, Any]) -> dict[str, Any]:
    """The special tokens of a config that does not name them: those of its class in transformers."""
    from transformers import CONFIG_MAPPING

    known = config.get("model_type") in CONFIG_MAPPING and not set(TOKEN_IDS[:3]) <= config.keys()
    with silenced():
        defaults = CONFIG_MAPPING[config["model_type"]]() if known else None
    return {name: getattr(defaults, name, None) for name in TOKEN_IDS}


def _read_generation(path: Path) -> dict[str, Any]:
    from converters.checkpoint.json_files import read_json
    from converters.errors import ConversionError

    if not path.exists():
        return {}
    try:
        return dict(read_json(path))
    except ConversionError as broken:
        raise FolderError(str(broken)) from broken
