"""Vector 18: a page is written, the process forks, the child exits, the parent writes; one step per input line."""
import ctypes, json, mmap, os, sys

area = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))


def step(*facts):
    print(json.dumps([address, *facts]), flush=True)
    sys.stdin.readline()


area[0] = 1
step()
wake, wait = os.pipe()
child = os.fork()
if child == 0:
    os.close(wait)
    os.read(wake, 1)
    os._exit(0)
step(child)
os.close(wait)
os.waitpid(child, 0)
step()
area[0] = 2
step()
