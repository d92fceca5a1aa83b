"""`convert zoo FILE`: a list of models converted, judged and pushed, and one report on all of them."""
