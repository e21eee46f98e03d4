"""What a process needs of protobuf."""
