"""The report: ``python -m benchmarks.report`` writes tables and charts from the rows of a run.

It measures nothing. `results` looks up figures, `sections` lists the tables, `document` assembles
them; `readme_figures` writes the headline into the project's README.
"""
