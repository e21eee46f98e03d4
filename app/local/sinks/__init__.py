"""What the sinks of the local stack need besides their programs: servers to write to, settings, addresses."""
