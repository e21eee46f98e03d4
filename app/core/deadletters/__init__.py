"""The dead-letter envelope, and its limit."""
