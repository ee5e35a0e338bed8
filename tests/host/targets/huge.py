"""A huge mapping that nothing touches, with a small one on each side: prints [low, huge, high]."""
import ctypes, json, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
length = 1 << 40
low = libc.mmap(None, length + 8192, 0, 0x4022, -1, 0)
libc.mmap(low, 4096, 1, 0x4032, -1, 0)
libc.mmap(low + 4096, length, 3, 0x4032, -1, 0)
print(json.dumps([low, low + 4096, low + 4096 + length]), flush=True)
sys.stdin.read()
