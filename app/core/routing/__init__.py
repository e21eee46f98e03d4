"""Topics and keys to addresses; the ACL of the broker."""
