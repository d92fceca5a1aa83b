"""Reading a model larger than memory a layer at a time, for one prompt or for many together."""
