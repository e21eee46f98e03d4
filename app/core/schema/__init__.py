"""A struct to columns, SQL types and generated functions."""
