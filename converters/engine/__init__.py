"""Bytes from file to file: a plan carried out into an output folder."""
