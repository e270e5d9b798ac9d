"""From token vectors to one embedding: pooling and the modules that follow it.

`modules` is a head as data, weights included; `head` draws it. Nothing here opens a file.
"""
