"""Moves, which say where each element of a tensor goes, and the proof that none is lost. Knows no checkpoint."""
