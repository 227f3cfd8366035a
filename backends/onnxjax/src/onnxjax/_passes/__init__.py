"""Rewrites of a graph, each from a graph to an equal one that is faster or plainer."""
