"""Receivers of the sinks that push: real servers that keep what they take, and fail when and how a test says."""
