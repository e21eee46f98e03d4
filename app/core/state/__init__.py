"""What is stored of one device, its encoding, the order of its changelog."""
