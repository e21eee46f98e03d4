"""What runs a sink: its consumer group, its partitions, its calls, its books."""
