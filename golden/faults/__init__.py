"""The faults that the self-test plants, and the sound variants that it must not blame."""
