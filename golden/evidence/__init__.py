"""The reference's results, from a live model or a golden file, and the measures of errors against them."""
