"""What `iot-stream run` has of its own to show, beside the screen of `iot-stream top`: lines, and alerts over MQTT."""
