"""Snapshots as words: columns of tables, the lines above them, plain lines and JSON."""
