"""Topics read without being a member of a group."""
