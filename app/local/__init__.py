"""The embedded stack: directory layout, supervisor, session."""
