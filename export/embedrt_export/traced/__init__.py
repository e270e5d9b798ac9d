"""Encoders of families that are not drawn from their weights, by way of a tracing exporter."""
