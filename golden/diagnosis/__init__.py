"""Where two models first differ, and which mistake explains the difference."""
