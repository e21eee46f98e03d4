"""Which devices and nodes are online."""
