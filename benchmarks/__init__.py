"""Speed, size and quality of embedrt beside its peers.

The rooms import each other in one direction: `report` reads what `harness` measures; `harness`
starts what `contenders` and `preparations` define; `machine` stands apart and knows the hardware.
The modules beside this one are commands, and what several rooms share. README.md has the method.
"""

MAIN_MODEL = "all-MiniLM-L6-v2"
OURS = ("embedrt int8", "embedrt fp32")
REFERENCE = "sentence-transformers fp32"  # checks the others' vectors; the baseline of ratios
