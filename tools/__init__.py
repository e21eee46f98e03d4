"""Programs for who develops and releases the product."""
