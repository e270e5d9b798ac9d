"""Measuring: a plan of workloads, contenders that take turns at each, and rows of raw figures.

`run` measures a model, workload by workload; `measuring` has a function for each kind of workload.
Contenders run in `processes` of their own, each with a `worker` inside; their `environments` and
`artifacts` are made once.
"""
