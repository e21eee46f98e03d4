"""Records of the input topic once more: offsets set back, records stored into another table."""
