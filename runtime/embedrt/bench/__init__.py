"""What ``embedrt bench`` measures: latency, throughput, start-up and memory of one bundle.

`measure` runs a plan in this process and `footprint` measures fresh processes. Nothing here is
imported by the rest of the package.
"""
