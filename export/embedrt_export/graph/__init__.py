"""Builds ONNX graphs node by node.

`nodes` collects nodes, `weights` writes arrays to a file as they are added, `layers` holds the
layers common to encoders and heads, and `fuse` converts an `Encoder` to nodes with the arithmetic
of `float32` or of the `int8` package. The other modules are parts of layers: kinds of attention,
rotary positions, the product with the vocabulary. Every weight is an argument, so that no file of
the model is read here.
"""
