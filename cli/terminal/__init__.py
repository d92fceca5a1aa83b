"""What a person sees: lines that fit the terminal, colours, folded layers, progress, and errors."""
