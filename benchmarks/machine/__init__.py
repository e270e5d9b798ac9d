"""The hardware: its description, its maximum rates, and the rates of a batch in each engine.

`describe` makes the description that each row of a benchmark carries. `limits` measures the maximum
rates, `engines` those that embedrt reaches.
"""
