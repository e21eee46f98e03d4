"""gRPC as a client speaks it: a channel, who calls, and what a failed call says."""
