"""The sinks of the local stack, besides their programs: servers to write to, settings, addresses."""
