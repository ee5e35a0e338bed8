"""Two threads that map and unmap all the time, until the input ends."""
import mmap, sys, threading

running = True


def work():
    while running:
        areas = [mmap.mmap(-1, 4096 * (i + 1)) for i in range(8)]
        for area in areas:
            area.close()


threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
print("[]", flush=True)
sys.stdin.read()
running = False
