"""The TensorFlow backend of xaimaps."""
