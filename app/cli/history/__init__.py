"""`iot-stream history`."""
