"""The hardware: what it is, what it can do at most, and how embedrt uses it.

`describe` is what each row of a benchmark says about the machine. `limits` measures its highest
rates, `roofline` compares a bundle with them, and `soak` watches memory over many texts.
"""
