"""`iot-stream top`: a deployment by its own words, /metrics pages and consumer group in, one picture a moment out."""
