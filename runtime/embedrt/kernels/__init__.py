"""Native kernels: a second engine for int8 bundles, in the optional package `embedrt-kernels`.

`graph` reads the structure of a bundle's graph, `recognize` converts it to an `Encoder` if the
kernels can run it, `library` calls the C library, and `session` is the runner for the scheduler.
`choose` selects the engine for a bundle and records the reason.
"""
