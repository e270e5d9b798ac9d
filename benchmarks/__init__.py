"""Speed, memory, size and quality of embedrt compared with other libraries.

The subpackages import each other in one direction only: `report` reads the rows of `harness`, which
runs `contenders` and `preparations` and describes the `machine`. The modules of this folder are
commands, such as `run` and `roofline`, and code that several subpackages share. README.md explains
the method.
"""

MAIN_MODEL = "all-MiniLM-L6-v2"
OURS = ("embedrt int8 with kernels", "embedrt int8", "embedrt fp32")
REFERENCE = "sentence-transformers fp32"  # to check vectors; the baseline of ratios
