"""What a process needs that is of no server: event loop, retry, interrupt, TLS, stop deadline."""
