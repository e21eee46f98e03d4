"""The colours of an alert in tables: of its events by their status, of its state by its phase; others have none."""

COLOURS = {"FIRING": "red", "REMINDER": "yellow", "STALE": "yellow", "RESOLVED": "green"}
