"""The hardware: its description, its maximum rates, and the share of them that embedrt reaches.

`describe` makes the description that each row of a benchmark carries. `limits` measures the rates,
`roofline` compares a bundle with them, and `soak` records the memory of a long run.
"""
