"""Which devices are due to be called inactive."""
