"""Make one artifact: ``python -m benchmarks.preparations MODULE ARTIFACT MODEL NEEDED OUTPUT``.

`benchmarks.harness.artifacts` runs this in the environment of the module.
"""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    module, artifact, model, needed, output = sys.argv[1:]
    preparation = import_module(f"benchmarks.preparations.{module}")
    preparation.prepare(artifact, model, Path(needed), Path(output))
