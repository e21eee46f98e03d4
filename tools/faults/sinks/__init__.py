"""Sinks and where they write to, hurt while messages flow; and auditors that ask the destinations what they have."""
