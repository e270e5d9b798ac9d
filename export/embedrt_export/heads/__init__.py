"""Graph nodes from token vectors to the result: pooling and the modules after it.

`head` draws the head of an embedding model or a reranker with the poolings of `pooling` and
`masked_pooling`, and `masked` that of a sparse encoder. What is drawn is data, read by the `source`
package before. All operators are old enough to follow a traced encoder as well.
"""
