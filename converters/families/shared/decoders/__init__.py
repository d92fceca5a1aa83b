"""Entries that a few decoders need: layers of different kinds, and one field for several paths."""
