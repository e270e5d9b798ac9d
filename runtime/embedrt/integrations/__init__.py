"""Adapters: a bundle as the embedding model or the reranker of a framework, one module for each.

A module imports its framework, and names the extra that installs it where it is missing. Nothing
else of embedrt imports this package.
"""
