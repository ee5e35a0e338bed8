/* Loads and stores of the program, with the signal caught where they fault. */
#include <signal.h>
#include <stdlib.h>

#include "agent.h"

static sigjmp_buf fault_jump;
static volatile int armed;
static siginfo_t fault;
static char signal_stack[65536] __attribute__((aligned(16)));

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	if (!armed) {
		/* The agent's own memory is gone (R-AG-13): let the signal do what it does. */
		signal(info->si_signo, SIG_DFL);
		return;
	}
	armed = 0;
	fault = *info;
	siglongjmp(fault_jump, 1);
}

void install_handlers(void)
{
	struct sigaction action = { 0 };
	stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof(signal_stack) };

	sigaltstack(&stack, NULL);
	action.sa_sigaction = on_fault;
	/* Nothing is blocked in the handler, so that the jump out of it need not restore a mask. */
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void reply_fault(void)
{
	reply_text(fault.si_signo == SIGBUS ? "SIGBUS" : "SIGSEGV");
	field_number("code", fault.si_code);
	field_number("addr", (int64_t)fault.si_addr);
}

/* The rest of the caller runs when the access faulted. */
#define FAULTED (armed = 1, sigsetjmp(fault_jump, 0))

void cmd_peek(void)
{
	uint64_t at = number_word(1), n = number_word_or(2, 1), v = 0;

	if (n != 1 && n != 2 && n != 4 && n != 8)
		usage("peek wants 1, 2, 4 or 8 bytes");
	if (FAULTED) {
		reply_fault();
		return;
	}
	switch (n) {
	case 1:
		v = *(volatile uint8_t *)at;
		break;
	case 2:
		v = *(volatile uint16_t *)at;
		break;
	case 4:
		v = *(volatile uint32_t *)at;
		break;
	default:
		v = *(volatile uint64_t *)at;
	}
	armed = 0;
	me->last = v;
	/* Not reply(): a value is never an errno. */
	out_text("{\"r\":");
	out_number(v);
	out_text(",\"e\":0");
}

void cmd_poke(void)
{
	uint64_t at = number_word(1), v = number_word(2), n = number_word_or(3, 1);

	if (n != 1 && n != 2 && n != 4 && n != 8)
		usage("poke wants 1, 2, 4 or 8 bytes");
	if (FAULTED) {
		reply_fault();
		return;
	}
	switch (n) {
	case 1:
		*(volatile uint8_t *)at = v;
		break;
	case 2:
		*(volatile uint16_t *)at = v;
		break;
	case 4:
		*(volatile uint32_t *)at = v;
		break;
	default:
		*(volatile uint64_t *)at = v;
	}
	armed = 0;
	reply(0);
}

void cmd_touch(void)
{
	int write = same(word(1), "w");
	volatile uint8_t *at = (volatile uint8_t *)number_word(2);

	if (!write && !same(word(1), "r"))
		usage("touch wants r or w");
	if (FAULTED) {
		reply_fault();
		return;
	}
	if (write)
		__asm__ volatile("lock; addb $0, %0" : "+m"(*at));
	else
		(void)*at;
	armed = 0;
	reply(0);
}

static uint8_t pattern(uint64_t seed, uint64_t i)
{
	return seed + i + 17 * (i >> 12);
}

void fill_bytes(unsigned char *into, size_t n, uint64_t seed, uint64_t from)
{
	for (size_t i = 0; i < n; i++)
		into[i] = pattern(seed, from + i);
}

uint32_t sum_bytes(const unsigned char *bytes, size_t n, uint32_t h)
{
	while (n--)
		h = h * 31 + *bytes++;
	return h;
}

void cmd_fill(void)
{
	volatile uint8_t *at = (volatile uint8_t *)number_word(1);
	uint64_t n = number_word(2), seed = number_word(3);
	static volatile uint64_t done;

	done = 0;
	if (FAULTED) {
		reply_fault();
		field_number("done", done);
		return;
	}
	for (; done < n; done++)
		at[done] = pattern(seed, done);
	armed = 0;
	reply(n);
}

void cmd_sum(void)
{
	volatile const uint8_t *at = (volatile const uint8_t *)number_word(1);
	uint64_t n = number_word(2);
	uint32_t h = 0;

	if (FAULTED) {
		reply_fault();
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		h = h * 31 + at[i];
	armed = 0;
	reply(h);
}
