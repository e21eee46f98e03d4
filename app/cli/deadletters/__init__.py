"""`iot-stream dlq`."""
