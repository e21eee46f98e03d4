"""Readings -> Redis: the last value of each device, never replaced by an older one; by setting, a stream per user."""
