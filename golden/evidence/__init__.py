"""What a reference says, live or from a golden file, and how errors against it are measured."""
