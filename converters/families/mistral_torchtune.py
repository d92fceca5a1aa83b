"""Mistral under torchtune's names.

Source: torchtune 0.6.1, `models/convert_weights.py`: rows and names are those of its LLaMA.
"""

from converters.config.layout import dims_of
from converters.families import mistral
from converters.families.shared.dialects.torchtune_names import EMBEDDING, HEAD, torchtune_rules, torchtune_table
from converters.family import Family

NAME = "mistral-torchtune"


FAMILY = Family(
    name=NAME,
    title="Mistral under torchtune's names, with the config.json of transformers",
    model_types=(NAME,),
    config=torchtune_table(NAME, mistral.CONFIG),
    rules=torchtune_rules,
    dims=dims_of,
    head=HEAD,
    embedding=EMBEDDING,
    expresses="as mistral",
    dialect_of="mistral",
    safetensors=True,
)
