"""Measuring: a plan of workloads, contenders that take turns at each, and rows of raw figures.

`run` does one model, workload by workload; `measuring` has a function for each kind of work.
Contenders run in `process`es of their own (`worker` is inside), on `environments` and `artifacts`
that are made once.
"""
