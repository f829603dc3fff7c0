"""GPU kernels. Ops find a kernel by its file; nothing here loads before the first call that needs it."""
