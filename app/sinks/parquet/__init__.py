"""Readings as Parquet files, in a directory or a bucket: each record of the topic in exactly one of them."""
