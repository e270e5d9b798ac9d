"""Traces encoders whose family is not built from its weights.

`trace` tries the tracers `optimum` and `dynamo` in order, and `finish` converts a traced graph to
the graph of a bundle. If both fail, the model is refused with the reasons of both. `known` holds
the architectures that are refused without trying.
"""
