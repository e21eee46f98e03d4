"""JSON Schemas of what users and operators write, and of what they are sent."""
