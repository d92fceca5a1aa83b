"""One file a family: what differs, and nothing else does. A file here that defines `FAMILY` is a family."""
