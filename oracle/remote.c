/* Memory of another process: process_vm_readv/writev, /proc/PID/mem, ptrace. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

static int reading(const char *direction)
{
	if (!same(direction, "r") && !same(direction, "w"))
		usage("r or w is wanted");
	return same(direction, "r");
}

void cmd_pvm(void)
{
	int read = reading(word(1));
	int pid = child_pid(word(2));
	struct {
		uint64_t base, length;
	} remote = { number_word(3), number_word(4) }, local = { number_word(5), remote.length };

	reply(RAW(read ? SYS_process_vm_readv : SYS_process_vm_writev, pid, &local, 1, &remote, 1, 0));
}

static void proc_path(char *into, int pid, const char *entry)
{
	char digits[12];
	int n = 0;

	strcpy(into, "/proc/");
	into += 6;
	do
		digits[n++] = '0' + pid % 10;
	while (pid /= 10);
	while (n)
		*into++ = digits[--n];
	strcpy(into, entry);
}

void cmd_mem(void)
{
	int read = reading(word(1));
	uint64_t address = number_word(3), n = number_word(4), local = number_word(5);
	int seek = nwords > 6;
	char path[40];
	long fd, result;

	if (seek && !same(word(6), "seek"))
		usage("the sixth word of mem is seek");
	proc_path(path, child_pid(word(2)), "/mem");
	fd = RAW(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (failed(fd)) {
		reply(fd);
		return;
	}
	if (seek) {
		/* Places that pread takes for negative; what it returns is the place, and looks like an errno. */
		RAW(SYS_lseek, fd, address, SEEK_SET);
		result = RAW(read ? SYS_read : SYS_write, fd, local, n);
	} else {
		result = RAW(read ? SYS_pread64 : SYS_pwrite64, fd, local, n, address);
	}
	RAW(SYS_close, fd);
	reply(result);
}

void cmd_ptrace(void)
{
	int peek = same(word(1), "peek"), pid = child_pid(word(2));
	uint64_t address = number_word(3), value = peek ? 0 : number_word(4);
	long result;

	if (!peek && !same(word(1), "poke"))
		usage("ptrace wants peek or poke");
	result = RAW(SYS_ptrace, PTRACE_SEIZE, pid, 0, 0);
	if (failed(result)) {
		reply(result);
		return;
	}
	RAW(SYS_ptrace, PTRACE_INTERRUPT, pid, 0, 0);
	RAW(SYS_wait4, pid, 0, __WALL, 0);
	/* The system call, unlike the library's wrapper, stores the word it reads. */
	result = peek ? RAW(SYS_ptrace, PTRACE_PEEKDATA, pid, address, &value) :
			RAW(SYS_ptrace, PTRACE_POKEDATA, pid, address, value);
	RAW(SYS_ptrace, PTRACE_DETACH, pid, 0, 0);
	reply(result);
	if (peek && !failed(result)) {
		field("v");
		out_text("\"0x");
		out_hex(value);
		out_char('"');
	}
}
