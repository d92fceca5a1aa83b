"""Duet, a family with a block of its own and a reference implementation, for MixFormer Convert."""
