"""Vectors 22 and 31: 16 written pages; registered after the first line of input, unregistered after the second."""
import ctypes, json, mmap, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
area = mmap.mmap(-1, 16 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
ctypes.memset(address, 1, 16 * 4096)
ring = libc.syscall(425, 8, ctypes.create_string_buffer(120))
print(json.dumps([address, ring]), flush=True)
sys.stdin.readline()
result = libc.syscall(427, ring, 0, ctypes.c_char_p(struct.pack("QQ", address, 16 * 4096)), 1)
print(json.dumps([result, ctypes.get_errno()]), flush=True)
sys.stdin.readline()
print(json.dumps([libc.syscall(427, ring, 1, 0, 0), 0]), flush=True)
sys.stdin.read()
