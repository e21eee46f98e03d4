"""Ways in: what every gateway shares."""
