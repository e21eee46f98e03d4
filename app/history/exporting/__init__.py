"""A part of the input topic, or of a table, into files: CSV or Parquet."""
