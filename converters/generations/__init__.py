"""MixFormers of earlier generations, read as one of today: their configs, their key names, and the wrappers of keys."""
