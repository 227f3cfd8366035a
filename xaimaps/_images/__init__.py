"""Pictures: from a file to pixels, and from pixels to a model's input."""
