"""Receivers of the sinks that push: real servers that record what they take, and fail as a test scripts it."""
