"""``embedrt compare``: what changes for the user's own texts when a bundle replaces the original.

`measure` encodes the texts with both, and `page` shows the result. Nothing is judged here: the
proof of an export does that, on texts of its own.
"""
