"""Builds ONNX graphs node by node.

`nodes` collects nodes, `weights` writes arrays to a file as they are added, `layers` holds the
layers common to encoders and heads, and `fuse` converts an `Encoder` to nodes with the arithmetic
of `float32` or of the `int8` package.
"""
