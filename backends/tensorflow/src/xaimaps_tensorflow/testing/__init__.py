"""Tools for tests: Keras models of every kind, and the networks of xaimaps.testing in Keras."""
