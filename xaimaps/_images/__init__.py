"""Pictures: reading files, and preprocessing pixels for a model."""
