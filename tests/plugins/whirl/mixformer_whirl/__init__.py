"""Whirl, a family with a block of its own, for MixFormer Convert."""
