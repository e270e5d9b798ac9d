"""Encoders of families that are not built from their weights, by way of a tracing exporter.

`trace` tries the tracers in order, `optimum` and `dynamo` are the two, and `finish` makes the graph
of a bundle of what they give.
"""
