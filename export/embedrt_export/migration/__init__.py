"""``embedrt compare``: compares a bundle with its original on the user's own texts.

`measure` encodes the texts with both, and `page` shows the result. There is no pass or fail: the
export itself checks the agreement, on texts of its own.
"""
