"""The programs of a deployment: each runs until SIGTERM."""
