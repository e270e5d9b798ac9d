"""ONNX graphs, written node by node.

`nodes` collects nodes and weights, `layers` holds what encoders and heads share, and `fuse` turns
an `Encoder` into nodes with the arithmetic of `float32` or of the int8 room.
"""
