"""The routes of each kind of client, with the fields, answers and errors that it expects.

A dialect turns fields into texts and wishes, and vectors into its own answer. Nothing else in the
server knows a wire format.
"""
