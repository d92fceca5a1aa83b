"""Entries that dialects of nGPT alone need."""
