"""A part of the input topic against a table of rows: each record accounted for, and each row."""
