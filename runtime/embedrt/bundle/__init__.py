"""Bundles on disk: the format, how one is read and checked, and how one is written.

`Bundle` opens a folder and `Manifest` holds every fact about it; nothing else in the runtime reads
a bundle's files. `writer`, which only exporters need, is not imported here. `graph_rules` checks a
graph file before ONNX Runtime sees it.
"""

from embedrt.bundle.manifest import Manifest as Manifest
from embedrt.bundle.reader import Bundle as Bundle
