"""The library of kernels for embedrt, which loads it with ctypes.

Its interface is ``src/interface.h``. Only embedrt is meant to use it.
"""

from pathlib import Path

_NAMES = ("libembedrt_kernels.so", "libembedrt_kernels.dylib", "embedrt_kernels.dll")


def library() -> Path:
    """Return the library's file; raise FileNotFoundError if the package was not built."""
    folder = Path(__file__).parent
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has no library; install embedrt-kernels again")
