"""The report: ``python -m benchmarks.report`` writes tables and charts from the rows of a run.

It measures nothing. `results` looks figures up, `sections` lists the tables, `document` puts them
together; `readme_figures` writes the headline into the project's README.
"""
