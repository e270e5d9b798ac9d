"""What turns waiting texts into vectors: sessions, threads, and the scheduler that all calls share.

`call` and `batching` are the bookkeeping of which texts run next and together, without threads;
`scheduler` holds the threads, `sessions` the loaded graphs and `cache` vectors that may come again.
`session` is the only module of the runtime that imports ONNX Runtime; `cpu` tells how many cores
this process may use and what they can compute.
"""
