"""What each user and device may bring in."""
