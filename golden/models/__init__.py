"""Model folders: opening them, running them, and the names of their parts."""
