"""Rules evaluated over device state, the alert lifecycle, its events."""
