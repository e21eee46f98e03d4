"""Records of one arrival that differ only in device and payload, from parsing to the batch."""
