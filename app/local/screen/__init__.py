"""The live screen of `iot-stream run`."""
