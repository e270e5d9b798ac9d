"""Static models: the mean of token vectors from a table, without an encoder.

`pipeline` runs their export, `graph` builds the graph, and `original` runs the library that made
the model, sentence-transformers or model2vec, which interpret the same files differently. `source`
reads their settings and weights, like those of all models.
"""
