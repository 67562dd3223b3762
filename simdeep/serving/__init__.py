"""Serving: deployments of units, their iterations and memory, and requests going through them."""
