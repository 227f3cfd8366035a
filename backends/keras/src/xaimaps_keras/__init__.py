"""Reading of Keras files that are not trusted: the checks before Keras opens them."""
