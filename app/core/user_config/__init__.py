"""The configuration of a user: rules, maintenance, sampling; the last known good configuration."""
