"""Rules as JSON: checked and compiled."""
