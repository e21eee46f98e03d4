"""What `iot-stream doctor` looks at; each module takes the settings and gives findings, and raises for no outage."""
