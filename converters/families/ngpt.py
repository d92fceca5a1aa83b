"""nGPT, the normalised transformer: a name for its dialects, whose functions differ.

`model_type: "ngpt"` in the configs of others means several other things, so none of ours takes it as its own.
"""

from converters.family import Umbrella

UMBRELLA = Umbrella("ngpt", "nGPT, the normalised transformer, in several dialects", plain="nvidia")
