"""Groups of config entries and rules that several families share."""
