"""The measurements: a plan of workloads, contenders that alternate, and rows of raw figures.

`run` measures a model, workload by workload; `measuring` has a function for each kind of workload.
Each contender runs in a process of its own (`processes`), which executes `worker`. The
`environments` and `artifacts` of contenders are made once.
"""
