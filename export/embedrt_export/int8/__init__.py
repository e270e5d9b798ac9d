"""Quantization to int8: calibration, schemes, and the quality that a scheme must keep.

`calibration` measures activation ranges, `smoothing` moves range from activations to weights,
`scheme` and `traced` write the quantized graph, and `selection` takes the fastest scheme whose
`quality` suffices.
"""
