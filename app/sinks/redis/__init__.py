"""Readings -> Redis: the last one of each device, guarded against older ones, and by setting a stream of each user."""
