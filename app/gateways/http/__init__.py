"""The way in over HTTP/1.1: JSON, NDJSON, protobuf and Influx line protocol, on aiohttp and uvloop."""
