"""The comparison with sentence-transformers that a bundle must pass before it exists.

`oracle` runs the original model in torch, `comparison` embeds `texts` with it and with the bundle
by the `calls` that people make, `agreement` says what must come of it, and `explanation` where the
two part. `probes` are for machines without torch.
"""
