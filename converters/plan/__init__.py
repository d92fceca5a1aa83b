"""Making a proved plan from a checkpoint and a family."""
