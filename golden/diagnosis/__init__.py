"""Where two models part, and which mistake explains it."""
