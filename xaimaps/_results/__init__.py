"""What an explanation is: maps, pictures of them, and files."""
