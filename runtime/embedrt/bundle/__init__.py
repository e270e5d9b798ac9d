"""The bundle format on disk: reading, checking and writing.

`Bundle` opens a folder, and `Manifest` holds all metadata about it. `graph_rules` checks a graph
file before ONNX Runtime loads it. `writer` is not imported here, because only exporters need it.
"""

from embedrt.bundle.manifest import Manifest as Manifest
from embedrt.bundle.reader import Bundle as Bundle
