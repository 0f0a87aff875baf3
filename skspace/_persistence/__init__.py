"""A fitted classifier saved, loaded, shared."""
