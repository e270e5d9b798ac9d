"""`embedrt serve` under load, compared with other servers of the same model.

wrk generates the load, because a client in Python would use the cores that are measured. Ratios to
`Embedder.encode` come from alternating measurements; they are the figures to use on a machine that
is not idle.
"""
