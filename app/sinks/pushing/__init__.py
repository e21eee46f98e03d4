"""What sinks share that push readings to somebody's program and wait for its answer: batches, in order per device."""
