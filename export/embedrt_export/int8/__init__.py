"""Quantization to int8.

`calibration` measures activation ranges, `smoothing` shifts range from activations to weights,
`scheme` and `traced` build the quantized graph, and `selection` chooses the fastest scheme that
reaches the required `quality`.
`conditions` holds the checks that each stage makes of its input and output.
"""
