"""Starcoder2 for MixFormer Convert."""
