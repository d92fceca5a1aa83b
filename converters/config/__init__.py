"""From one config to the other: tables of fields, and MixFormer's own layout."""
