"""The limit of a sink's series: known series are counted exactly, series over the limit are estimated."""
