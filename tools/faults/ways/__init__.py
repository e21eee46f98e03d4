"""The gateways in the fault tests: their streams, their senders, and misbehaving clients."""
