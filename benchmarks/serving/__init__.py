"""`embedrt serve` under load, beside other servers of the same model.

The load comes from wrk, because a client in Python would eat the cores that it measures. Ratios to
`Embedder.encode` are measured in turns, and are what to look at on a machine that is not idle.
"""
