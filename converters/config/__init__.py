"""Converting config.json: tables of fields, and the layout of a MixFormer."""
