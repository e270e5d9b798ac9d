"""The comparison with sentence-transformers that a bundle must pass before it exists.

`oracle` runs the original model in torch and `agreement` compares the bundle with it.
"""
