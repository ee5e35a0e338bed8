"""Makes N mappings that cannot merge; prints the addresses of the first, a middle and the last writable one."""
import ctypes, json, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
pairs = int(sys.argv[1]) // 2
base = libc.mmap(None, pairs * 8192, 0, 0x22, -1, 0)
for i in range(pairs):
    if libc.mmap(base + i * 8192, 4096, 3, 0x32, -1, 0) == 2**64 - 1:
        sys.exit("mmap failed")
middle = base + 8192 * (pairs // 2)
ctypes.memset(middle, 1, 4096)
print(json.dumps([base, middle, base + 8192 * (pairs - 1)]), flush=True)
sys.stdin.read()
