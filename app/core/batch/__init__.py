"""A batch, its output and effects, its books."""
