"""Reading Keras files that nobody vouches for: what is checked before Keras sees them."""
