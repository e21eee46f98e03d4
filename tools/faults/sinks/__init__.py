"""Faults of sinks and of their destinations under load, and the audit of the destinations' contents."""
