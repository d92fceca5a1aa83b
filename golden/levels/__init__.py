"""The levels of a verdict: one file judges one level, or two that belong together."""
