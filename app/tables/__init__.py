"""Device state: the RocksDB store, its changelog, its recovery."""
