"""Reading checkpoints from disk: headers, names and bytes."""
