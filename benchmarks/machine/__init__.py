"""The hardware: its description, its highest rates, and how much of them embedrt uses.

`describe` makes the description that each row of a benchmark carries. `limits` measures the rates,
`roofline` compares a bundle with them, and `soak` records the memory of a long run.
"""
