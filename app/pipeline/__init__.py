"""The path of a batch: the order of its steps."""
