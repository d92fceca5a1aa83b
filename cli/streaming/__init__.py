"""`--stream`: a repo is converted, and judged, without ever being whole on disk."""
