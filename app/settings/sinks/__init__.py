"""Settings of the ways out: those that all sinks share, and those of each kind."""
