"""CPU implementations, compiled by numba on first use."""
