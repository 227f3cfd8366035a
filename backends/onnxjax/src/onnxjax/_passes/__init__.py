"""Graph passes; each returns an equivalent graph that is faster or simpler."""
