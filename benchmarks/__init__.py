"""Speed, size and quality of embedrt beside its peers.

The rooms import each other in one direction only: `report` reads the rows of `harness`, which runs
`contenders` and `preparations` and describes the `machine`. The modules of this folder are commands
(`run`, `roofline`, `soak`) and code that several rooms share. README.md explains the method.
"""

MAIN_MODEL = "all-MiniLM-L6-v2"
OURS = ("embedrt int8", "embedrt fp32")
REFERENCE = "sentence-transformers fp32"  # checks the others' vectors; the baseline of ratios
