"""The colours of alert severities and process states in tables."""

COLOURS = {"FIRING": "red", "REMINDER": "yellow", "STALE": "yellow", "RESOLVED": "green"}
