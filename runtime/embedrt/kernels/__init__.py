"""Native kernels: a second engine for int8 bundles, in the optional package `embedrt-kernels`.

`graph` reads the structure of a bundle's graph, `recognize` makes an `Encoder` of it if the kernels
can run it, `library` calls the C library, and `session` is what the scheduler runs. `choose`
decides which engine runs a bundle, and says why.
"""
