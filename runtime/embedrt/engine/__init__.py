"""The engine: queued texts, the scheduler that all calls share, and the ONNX Runtime sessions.

`call` and `batching` hold the queue and `filling` forms batches, without threads. `scheduler` owns
the threads, `sessions` the loaded graphs, and `cache` the vectors of recent texts. `session` is the
only module of the runtime that imports ONNX Runtime, and is itself imported for the first bundle
that runs there: the kernels do without. `at_once` runs the texts of static models, which are not
queued. `cpu` detects how many cores this process may use, `clipping` whether their int8 kernels are
exact, and `huge_pages` moves packed weights where their addresses are found faster.
"""

import os

# ONNX Runtime's Linux wheels send usage data unless this is set before their import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
