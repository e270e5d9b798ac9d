"""Makes one artifact, inside the environment that can: see ``workshop.py``.

python -m benchmarks.maker FILE ARTIFACT MODEL NEEDED OUTPUT
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Load the preparation's file and have it make the artifact."""
    file, artifact, model, needed, output = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("preparation", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is no Python module")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.prepare(artifact, model, Path(needed), Path(output))


if __name__ == "__main__":
    main()
