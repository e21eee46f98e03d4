"""The protobuf contract of proto/: the code made from it, and what may not change in it."""
