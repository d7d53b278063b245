"""The engine child process: everything that runs beside the native library."""
