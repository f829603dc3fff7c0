"""The truth: plain code that reads like the definition."""
