"""The model card: what a folder or repo says about a conversion, between two marks in README.md, and its picture."""
