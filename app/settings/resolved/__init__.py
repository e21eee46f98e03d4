"""The settings as they are in force: each value, where it came from, and no secret."""
