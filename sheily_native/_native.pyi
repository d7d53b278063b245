"""What the compiled module exports: cffi's two objects, whose members csrc/api.h names."""

from typing import Any

import cffi

ffi: cffi.FFI
lib: Any
