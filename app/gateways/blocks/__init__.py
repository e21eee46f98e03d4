"""Records that came together and differ in device and payload alone, from their reading to their batch."""
