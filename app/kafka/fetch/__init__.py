"""Records as they are fetched: whole runs of them, whatever their headers are called."""
