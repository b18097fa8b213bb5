"""R replicas of one method trained as one: their tensors stacked on a leading dimension.

The rounds are those of `kdgan_core.methods`; a stack is to them what one replica is. A GPU that
waits for the launches of small kernels has R replicas' work in each of them.
"""
