"""Sinks, which write the input topic to destinations beside the database: one port, a consumer group for each sink."""
