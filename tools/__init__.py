"""Programs for the development and the release of the product."""
