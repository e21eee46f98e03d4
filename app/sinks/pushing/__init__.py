"""The common part of sinks that push readings to a receiver and wait for its answer: batches, in order per device."""
