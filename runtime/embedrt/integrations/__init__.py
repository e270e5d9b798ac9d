"""Adapters: a bundle as the embedding model or the reranker of a framework, one module for each.

Each module imports its framework; if it is missing, the error names the extra that installs it. No
other part of embedrt imports this package.
"""
