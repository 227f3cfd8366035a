"""Results: maps, pictures of maps, and files."""
