"""The faults that the self-test plants, and the correct models that must pass."""
