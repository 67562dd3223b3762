"""Charts and files for people: nothing here computes a result or moves a span."""
