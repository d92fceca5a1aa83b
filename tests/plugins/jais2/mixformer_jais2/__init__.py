"""Jais-2 for MixFormer Convert."""
