"""Mistral under torchtune's names.

Source: torchtune 0.6.1, `models/convert_weights.py`: rows and names are those of its LLaMA.
"""

from converters.families import mistral
from converters.families.shared.dialects.torchtune_names import torchtune_family, torchtune_rules

FAMILY = torchtune_family("mistral", "Mistral", mistral.CONFIG, torchtune_rules, "as mistral")
