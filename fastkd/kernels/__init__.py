"""Floor 1: how the ops are run. Backends know nothing above them, nor each other."""
