"""Tells what is installed in the environment that runs this, as a line of JSON."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = """
    embedrt onnxruntime tokenizers numpy sentence-transformers transformers torch optimum-onnx onnx
    openvino nncf fastembed ctranslate2
""".split()
TOOLS = frozenset({"pip", "setuptools", "wheel"})


def package_versions() -> dict[str, str]:
    """Versions of Python and of those packages that are there."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def installed_bytes() -> int:
    """Size of all installed files, without pip's own and compiled copies of Python files."""
    files = {
        Path(str(file.locate()))
        for distribution in metadata.distributions()
        if distribution.metadata["Name"].lower() not in TOOLS
        for file in distribution.files or ()
        if file.suffix != ".pyc"
    }
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    print(json.dumps({"versions": package_versions(), "bytes": installed_bytes()}))
