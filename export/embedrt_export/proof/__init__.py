"""Compares a bundle with sentence-transformers before the bundle is published.

`oracle` runs the original model in torch, and `seen` gets the token ids of a run. `comparison`
embeds the `texts` with the oracle and the bundle in each of the `calls`, `agreement` checks the
tolerances, and `explanation` describes the differences. `probes` makes reference vectors for
machines without torch.
"""
