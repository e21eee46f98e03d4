"""Settings of the sinks: the settings of all sinks, and the settings of each kind."""
