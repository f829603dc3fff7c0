"""The program ``fastkd``: thin commands over the rooms below, and the study runner."""
