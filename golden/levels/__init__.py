"""The levels of a verdict, L0 to L4: one file judges one level, or two that belong together."""
