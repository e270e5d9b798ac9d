"""The comparison with sentence-transformers that a bundle must pass before it exists.

`oracle` runs the original in torch, `comparison` embeds the `texts` with it and with the bundle in
each of the `calls`, `agreement` decides, and `explanation` describes what differs. `probes` are for
machines without torch.
"""
