"""What is in a payload, before it is a record; shared by the gateways."""
