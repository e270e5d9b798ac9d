"""Quantization to int8: calibration, schemes, and the quality that a scheme must keep.

`calibration` measures activation ranges, `smoothing` moves range from activations to weights,
`scheme` and `traced` write the quantized graph, and `ladder` takes the fastest scheme whose
`quality` suffices. `conditions` are what each of them checks of what it is given and what it makes.
"""
