"""Commands that look at single messages."""
