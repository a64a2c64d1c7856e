"""What runs in the pods, each a script of its own that imports nothing of this package."""
