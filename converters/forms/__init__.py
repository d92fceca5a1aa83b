"""Readers and writers of file forms that are no Hugging Face folder, one file a form."""
