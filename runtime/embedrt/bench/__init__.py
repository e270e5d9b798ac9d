"""Benchmarks behind ``embedrt bench``: latency, throughput, startup time and memory of a bundle.

`measure` runs a plan in this process; `footprint` measures fresh processes. Only the command line
imports this package.
"""
