"""Rule sets tried on files or on stored readings."""
