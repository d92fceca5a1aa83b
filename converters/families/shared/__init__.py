"""The words that family files are written in: groups of fields and rules that several families share."""
