"""Static models: the mean of token vectors from a table, without an encoder.

`pipeline` tells the story of their export, `graph` draws the table, and `original` runs the library
that made the model, sentence-transformers or model2vec, which differ in what they make of the same
files. Their settings and weights are read in `source`, as all files of models.
"""
