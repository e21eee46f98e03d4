"""Ways out of `iot-stream` beside the database: destinations behind one port, each with a consumer group of its own."""
