"""From a checkpoint and a family to a proved plan."""
