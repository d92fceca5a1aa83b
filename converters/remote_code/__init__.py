"""The package's source text joined into the two flat files that transformers can load from a model's folder."""
