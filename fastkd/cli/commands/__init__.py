"""One command per module: parse -> configuration -> call."""
