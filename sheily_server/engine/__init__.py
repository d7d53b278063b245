"""The engine child process: everything that runs next to the native library."""
