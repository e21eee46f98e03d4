"""Parts of the benchmark of the gateways: the events, bare servers for comparison, and the senders."""
