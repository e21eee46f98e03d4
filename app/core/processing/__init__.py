"""A batch in, its output out; the cache of devices; control records."""
