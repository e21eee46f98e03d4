"""The colours of alert severities and process states in tables and on the live screen."""

COLOURS = {"FIRING": "red", "REMINDER": "yellow", "STALE": "yellow", "RESOLVED": "green"}
