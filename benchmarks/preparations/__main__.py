"""Make one artifact: ``python -m benchmarks.preparations MODULE ARTIFACT MODEL NEEDED OUTPUT``.

`benchmarks.harness.artifacts` runs it in the environment of the preparation.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Import the preparation and make the artifact."""
    module, artifact, model, needed, output = sys.argv[1:]
    preparation = import_module(f"benchmarks.preparations.{module}")
    preparation.prepare(artifact, model, Path(needed), Path(output))


if __name__ == "__main__":
    main()
