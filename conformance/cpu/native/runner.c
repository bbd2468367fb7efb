/*
 * Runs single instructions on the processor of this machine, each from a complete register and memory state, and tells
 * the complete state after it. Reads one batch from standard input and writes the outcomes to standard output.
 *
 * How: each case is entered by returning from a signal handler whose saved context was overwritten with the case's
 * registers; the instruction is followed by INT3 bytes, so that the next signal (trap or fault) brings the state back.
 *
 * Batch: struct header, then `count` times struct state with `memory_bytes` of memory. Answers have the same shape.
 * Layouts are repeated in ../native.ts.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "../../lib/io.h"

#define CODE_BASE 0x10000000UL
#define CODE_BYTES 0x2000UL
#define DATA_BASE 0x20000000UL
#define DATA_BYTES 0x2000UL
#define READONLY_BASE (DATA_BASE + DATA_BYTES)
#define GS_BASE 0x1fff0000UL
#define INT3 0xcc
/* The signal frame's XSAVE area, in the standard format. */
#define XSTATE_BV 512
#define XSAVE_AVX 576
#define XSTATE_SSE 2UL
#define XSTATE_AVX 4UL
#define XSTATE_X87_SSE_AVX 7UL
#define FLAGS_FOR_CASE 0x00000cd5UL /* CF PF AF ZF SF DF OF */
#define FLAGS_ALWAYS 0x00000202UL

struct header {
	uint32_t count;
	uint32_t memory_bytes;
};

struct state {
	uint8_t code[16];       /* out: signal u32, trap number u32, error code u64 */
	uint32_t code_offset;   /* out: cr2, with code_length */
	uint32_t code_length;
	uint64_t memory_address; /* out: rip */
	uint64_t gpr[16];
	uint64_t rflags;
	uint64_t reserved;
	uint8_t fx[512];
	uint8_t ymm_high[256]; /* upper halves of YMM0 to YMM15 */
	uint8_t memory[];
};

static const int context_index[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static struct header header;
static uint8_t *cases;
static uint8_t *outcomes;
static size_t stride;
static volatile uint32_t current;
static uint32_t seen_by_timer = UINT32_MAX;
static int started;
static sigjmp_buf finished;

static struct state *nth(uint8_t *base, uint32_t n)
{
	return (struct state *)(base + (size_t)n * stride);
}

static void enter(ucontext_t *context)
{
	struct state *in = nth(cases, current);
	greg_t *regs = context->uc_mcontext.gregs;

	for (int i = 0; i < 16; i++)
		regs[context_index[i]] = (greg_t)in->gpr[i];
	regs[REG_EFL] = (greg_t)((in->rflags & FLAGS_FOR_CASE) | FLAGS_ALWAYS);
	regs[REG_RIP] = (greg_t)(CODE_BASE + in->code_offset);
	memcpy((void *)(CODE_BASE + in->code_offset), in->code, in->code_length);
	memcpy((void *)in->memory_address, in->memory, header.memory_bytes);
	uint8_t *xsave = (uint8_t *)context->uc_mcontext.fpregs;

	/* Only the 464 architectural bytes; what follows belongs to the kernel. */
	memcpy(xsave, in->fx, 416);
	*(uint64_t *)(xsave + XSTATE_BV) |= XSTATE_X87_SSE_AVX;
	memcpy(xsave + XSAVE_AVX, in->ymm_high, sizeof(in->ymm_high));
}

static void leave(ucontext_t *context, int signal_number)
{
	struct state *in = nth(cases, current);
	struct state *out = nth(outcomes, current);
	const uint8_t *xsave = (const uint8_t *)context->uc_mcontext.fpregs;
	greg_t *regs = context->uc_mcontext.gregs;
	uint32_t numbers[2] = { (uint32_t)signal_number, (uint32_t)regs[REG_TRAPNO] };
	uint64_t error = (uint64_t)regs[REG_ERR], cr2 = (uint64_t)regs[REG_CR2];

	memcpy(out->code, numbers, 8);
	memcpy(out->code + 8, &error, 8);
	memcpy(&out->code_offset, &cr2, 8);
	out->memory_address = (uint64_t)regs[REG_RIP];
	for (int i = 0; i < 16; i++)
		out->gpr[i] = (uint64_t)regs[context_index[i]];
	out->rflags = (uint64_t)regs[REG_EFL];
	memcpy(out->fx, xsave, 512);
	/* A state component in its initial configuration may be left out. */
	if (*(uint64_t *)(xsave + XSTATE_BV) & XSTATE_AVX)
		memcpy(out->ymm_high, xsave + XSAVE_AVX, sizeof(out->ymm_high));
	else
		memset(out->ymm_high, 0, sizeof(out->ymm_high));
	if (!(*(uint64_t *)(xsave + XSTATE_BV) & XSTATE_SSE))
		memset(out->fx + 160, 0, 256);
	memcpy(out->memory, (void *)in->memory_address, header.memory_bytes);
	memset((void *)in->memory_address, 0, header.memory_bytes);
	memset((void *)(CODE_BASE + in->code_offset), INT3, sizeof(in->code));
}

static void on_signal(int signal_number, siginfo_t *info, void *raw)
{
	ucontext_t *context = raw;
	(void)info;

	if (signal_number == SIGALRM) {
		/* A case that outlives two ticks hangs. */
		if (!started || seen_by_timer != current) {
			seen_by_timer = current;
			return;
		}
	}
	if (started) {
		leave(context, signal_number);
		current++;
	}
	started = 1;
	if (current == header.count)
		siglongjmp(finished, 1);
	enter(context);
}

static void map(uintptr_t address, size_t bytes, int protection)
{
	void *at = mmap((void *)address, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (at != (void *)address)
		exit(4);
}

int main(void)
{
	static uint8_t signal_stack[1 << 16];
	static const int signals[] = { SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGALRM };
	stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof(signal_stack) };
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct itimerval tick = { { 1, 0 }, { 1, 0 } };

	read_all(&header, sizeof(header));
	stride = sizeof(struct state) + header.memory_bytes;
	cases = malloc(stride * header.count);
	outcomes = calloc(header.count, stride);
	if (!cases || !outcomes)
		return 5;
	read_all(cases, stride * header.count);
	map(CODE_BASE, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC);
	memset((void *)CODE_BASE, INT3, CODE_BYTES);
	map(DATA_BASE, DATA_BYTES, PROT_READ | PROT_WRITE);
	map(READONLY_BASE, 0x1000, PROT_READ);
	/* All pages present: an error code tells rights from absence. */
	(void)*(volatile uint8_t *)READONLY_BASE;
	memset((void *)DATA_BASE, 0, DATA_BYTES);
	syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE);
	sigaltstack(&stack, NULL);
	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);
	if (sigsetjmp(finished, 1) == 0)
		raise(SIGTRAP);
	write_all(outcomes, stride * header.count);
	return 0;
}
