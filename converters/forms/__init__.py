"""Readers and writers of file forms other than Hugging Face folders, one file for each form."""
