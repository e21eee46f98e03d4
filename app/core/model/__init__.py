"""The nouns: record, reading, alert event, fault, inactivity claim, reply, key, time."""
