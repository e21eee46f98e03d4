"""The wire format of what is written to Kafka, where aiokafka's own encoder costs more than all before it."""
