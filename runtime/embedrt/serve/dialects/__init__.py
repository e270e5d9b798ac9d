"""The routes of each kind of client, with the fields, answers and errors that it expects.

A dialect converts the fields of a request to texts and options, and vectors to its own response.
Wire formats are defined only here.
"""
