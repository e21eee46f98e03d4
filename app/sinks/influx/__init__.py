"""Readings -> InfluxDB's line protocol over HTTP: InfluxDB 1.x and 2.x, VictoriaMetrics, QuestDB."""
