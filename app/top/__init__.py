"""`iot-stream top`: a deployment by its own words: /metrics pages and consumer group in, a picture a moment out."""
