"""The engine: queued texts, the scheduler that all calls share, and the ONNX Runtime sessions.

`call` and `batching` hold the queue, `turns` determines which call is next, and `filling` forms
batches, all without threads. `scheduler` owns the threads, `sessions` the loaded graphs, and
`cache` the vectors of recent texts. `session` is the only module of the runtime that imports ONNX
Runtime, and is itself imported for the first bundle that runs there. `at_once` runs the texts of
static models, which are not queued. `cpu` detects the number of cores that this process may use,
`clipping` whether their int8 kernels are exact, and `huge_pages` moves packed weights to huge
pages.
"""

import os

# ONNX Runtime's Linux wheels send usage data unless this is set before their import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
