"""Processes in odd states: prints [zombie, leaderless group, exec'd later]; a line on stdin makes the last one exec."""
import ctypes, json, os, sys, threading, time

zombie = os.fork()
if zombie == 0:
    os._exit(0)

leaderless = os.fork()
if leaderless == 0:
    started = threading.Event()
    threading.Thread(target=lambda: (started.set(), time.sleep(600))).start()
    started.wait()
    ctypes.CDLL(None).syscall(60, 0)

closed, end = os.pipe()
changing = os.fork()
if changing == 0:
    os.close(end)
    os.read(closed, 1)
    os.execvp("sleep", ["sleep", "600"])

time.sleep(0.2)
print(json.dumps([zombie, leaderless, changing]), flush=True)
sys.stdin.readline()
os.close(end)
time.sleep(0.2)
print("[]", flush=True)
sys.stdin.read()
for pid in (leaderless, changing):
    os.kill(pid, 9)
