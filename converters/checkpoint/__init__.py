"""What lies on disk: headers, names and bytes of a checkpoint."""
