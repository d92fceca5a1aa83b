"""Moves on strided boxes: which element goes where, and the proof that none is lost. Knows no checkpoint."""
