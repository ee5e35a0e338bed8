/* Connected pairs of sockets over the loopback device: NAME.w sends, NAME.r receives. */
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "agent.h"

enum { RECEIVER, SENDER, FILLER };

static void part(char *into, int which)
{
	static const char *const ends[] = { ".r", ".w", ".f" };

	if (strlen(word(1)) > NAME_BYTES - 3)
		usage("the name of a pair of sockets has at most 20 characters");
	strcpy(into, word(1));
	strcat(into, ends[which]);
}

static void store(int which, long value)
{
	char name[NAME_BYTES];

	part(name, which);
	name_store(name, value);
}

static long stored(int which)
{
	char name[NAME_BYTES];
	struct name *found;

	part(name, which);
	found = name_find(name);
	if (!found)
		usage("no such name");
	return found->value;
}

static long loopback_socket(int type, struct sockaddr_in *own)
{
	socklen_t bytes = sizeof(*own);
	long fd = RAW(SYS_socket, AF_INET, type | SOCK_CLOEXEC, 0), result = fd;

	*own = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (failed(fd))
		return fd;
	result = RAW(SYS_bind, fd, own, sizeof(*own));
	if (!failed(result))
		result = RAW(SYS_getsockname, fd, own, &bytes);
	return failed(result) ? result : fd;
}

static long udp_pair(int fds[2])
{
	struct sockaddr_in own[2];
	long result = 0;

	for (int i = 0; i < 2; i++) {
		fds[i] = loopback_socket(SOCK_DGRAM, &own[i]);
		if (failed(fds[i]))
			return fds[i];
	}
	for (int i = 0; i < 2 && !failed(result); i++)
		result = RAW(SYS_connect, fds[i], &own[1 - i], sizeof(own[0]));
	return result;
}

static long tcp_pair(int fds[2])
{
	struct sockaddr_in listens, own;
	long listener = loopback_socket(SOCK_STREAM, &listens), result = listener;
	int one = 1;

	if (failed(listener))
		return listener;
	fds[SENDER] = loopback_socket(SOCK_STREAM, &own);
	result = RAW(SYS_listen, listener, 1);
	if (!failed(result))
		result = RAW(SYS_connect, fds[SENDER], &listens, sizeof(listens));
	if (!failed(result))
		result = fds[RECEIVER] = RAW(SYS_accept4, listener, 0, 0, SOCK_CLOEXEC);
	RAW(SYS_close, listener);
	if (!failed(result))
		result = RAW(SYS_setsockopt, fds[SENDER], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return result;
}

void cmd_sockets(void)
{
	const char *kind = word(2);
	int fds[2];
	long result;

	name_check(word(1));
	if (same(kind, "udp"))
		result = udp_pair(fds);
	else if (same(kind, "tcp"))
		result = tcp_pair(fds);
	else if (same(kind, "unix"))
		result = RAW(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
	else
		usage("sockets are udp, tcp or unix");
	if (!failed(result)) {
		store(RECEIVER, fds[RECEIVER]);
		store(SENDER, fds[SENDER]);
		store(FILLER, 0);
		result = 0;
	}
	reply(result);
}

static int queued(long fd, unsigned long what)
{
	int bytes = 0;

	RAW(SYS_ioctl, fd, what, &bytes);
	return bytes;
}

static void wait_a_little(void)
{
	struct timespec moment = { 0, 1000000 };

	RAW(SYS_nanosleep, &moment, 0);
}

/* Sends zeros until some have to wait for the reader. */
void cmd_stall(void)
{
	long fd = stored(SENDER), result = 0;
	uint64_t filler = stored(FILLER);

	memset(work, 0, sizeof(work));
	while (queued(fd, SIOCOUTQNSD) == 0) {
		result = RAW(SYS_sendto, fd, work, sizeof(work), MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
		if (failed(result))
			break;
		filler += result;
		wait_a_little();
	}
	store(FILLER, filler);
	reply(failed(result) ? result : 0);
}

/* Receives until nothing is on its way any more; the zeros of `stall` do not count. */
void cmd_flow(void)
{
	long from = stored(SENDER), fd = stored(RECEIVER);
	uint64_t filler = stored(FILLER), total = 0;
	uint32_t h = 0;

	for (int idle = 0; idle < 3000;) {
		long got = RAW(SYS_recvfrom, fd, work, sizeof(work), MSG_DONTWAIT, 0, 0);
		uint64_t skip;

		if (got <= 0) {
			if (queued(from, SIOCOUTQ) == 0)
				break;
			idle++;
			wait_a_little();
			continue;
		}
		skip = filler < (uint64_t)got ? filler : (uint64_t)got;
		filler -= skip;
		h = sum_bytes(work + skip, got - skip, h);
		total += got - skip;
	}
	store(FILLER, 0);
	reply(h);
	field_number("bytes", total);
}
