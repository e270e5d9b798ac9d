"""Graph nodes from token vectors to the result: pooling and the modules after it.

`head` draws the head of an embedding model or a reranker with the poolings of `pooling` and
`masked_pooling`, and `masked` that of a sparse encoder. Their input is data that the `source`
package has read. All operators are old enough to follow a traced encoder too.
"""
