"""Checks of payloads before they become records; shared by the gateways."""
