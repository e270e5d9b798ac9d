"""Adapters: a bundle as the embedding model of another framework, one module for each.

A module imports its framework, and names the extra that installs it where it is missing. Nothing
else of embedrt imports this package.
"""
