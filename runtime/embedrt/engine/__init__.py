"""What runs batches of token ids: sessions, threads, and the scheduler that fills batches.

`session` is the only module of the runtime that imports ONNX Runtime. `cpu` tells how many cores
this process may use and what they can compute. `scheduler` decides which texts run together and
where.
"""
