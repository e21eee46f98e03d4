"""Lines of JSON from a file or a pipe, pushed to a gateway by whatever way: `iot-stream push`."""
