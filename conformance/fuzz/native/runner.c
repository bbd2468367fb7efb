/*
 * Runs whole programs on the processor of this machine, each from a complete register and memory state, and tells the
 * state at each of its faults and at its end. Reads one batch from standard input, writes the runs to standard output.
 *
 * How: a program is entered by returning from a signal handler whose saved context was overwritten with its registers;
 * each fault, and the INT3 at its end, brings the state back. Memory is one file mapped in all the places of `regions`.
 * A filter lets no system call through but those of this file: what a program does by accident cannot reach anything.
 *
 * Layouts are repeated in ../native.ts; the protocol of faults stands in ../world.ts.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "../../lib/io.h"

#define MAX_EVENTS 12
#define MAX_REGIONS 16
#define FX_COMPARED 416
#define FX_XMM 160
#define YMM_HIGH_BYTES 256
/* The signal frame's XSAVE area, in the standard format. */
#define XSTATE_BV 512
#define XSAVE_AVX 576
#define XSTATE_SSE 2UL
#define XSTATE_AVX 4UL
#define XSTATE_X87_SSE_AVX 7UL
#define FLAGS_FOR_CASE 0x00000cd5UL /* CF PF AF ZF SF DF OF */
#define ARITHMETIC_FLAGS 0x8d5L
#define FLAGS_ALWAYS 0x00000202UL
#define TICK_MICROSECONDS 200000
#define TRAP_BREAKPOINT 3

struct region {
	uint64_t address;
	uint32_t page;
	uint32_t pages;
	uint32_t protection;
	uint32_t unused;
};

struct header {
	uint32_t count;
	uint32_t image_bytes;
	uint32_t nr_regions;
	uint32_t unused;
	uint64_t gs_base;
	uint64_t resume_cell;
	struct region regions[MAX_REGIONS];
};

struct program {
	uint64_t entry;
	uint64_t rflags;
	uint64_t gpr[16];
	uint8_t fx[512];
	uint8_t ymm_high[YMM_HIGH_BYTES];
	uint8_t image[];
};

struct event {
	uint32_t signal;
	uint32_t trap;
	uint64_t error;
	uint64_t cr2;
	uint64_t rip;
	uint64_t rflags;
	uint64_t gpr[16];
	uint8_t fx[FX_COMPARED];
	uint8_t ymm_high[YMM_HIGH_BYTES];
};

struct run {
	uint32_t timeout;
	uint32_t nr_events;
	struct event events[MAX_EVENTS];
	uint8_t image[];
};

static const int context_index[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static struct header header;
static uint8_t *programs, *runs, *memory;
static size_t program_stride, run_stride;
static volatile uint32_t current;
static uint32_t seen_by_timer = UINT32_MAX;
static volatile int started;
static sigjmp_buf finished;

static struct program *program_at(uint32_t n) { return (struct program *)(programs + n * program_stride); }
static struct run *run_at(uint32_t n) { return (struct run *)(runs + n * run_stride); }

static void enter(ucontext_t *context)
{
	struct program *program = program_at(current);
	uint8_t *xsave = (uint8_t *)context->uc_mcontext.fpregs;
	greg_t *regs = context->uc_mcontext.gregs;

	for (int i = 0; i < 16; i++)
		regs[context_index[i]] = (greg_t)program->gpr[i];
	regs[REG_EFL] = (greg_t)((program->rflags & FLAGS_FOR_CASE) | FLAGS_ALWAYS);
	regs[REG_RIP] = (greg_t)program->entry;
	memcpy(memory, program->image, header.image_bytes);
	/* Only what is architectural: what follows belongs to the kernel. */
	memcpy(xsave, program->fx, FX_COMPARED);
	memcpy(xsave + XSAVE_AVX, program->ymm_high, YMM_HIGH_BYTES);
	*(uint64_t *)(xsave + XSTATE_BV) |= XSTATE_X87_SSE_AVX;
}

/* Notes the event; true when the program goes on behind it. */
static int note(ucontext_t *context, int signal_number)
{
	struct run *run = run_at(current);
	struct event *event = &run->events[run->nr_events++];
	greg_t *regs = context->uc_mcontext.gregs;
	const uint8_t *xsave = (const uint8_t *)context->uc_mcontext.fpregs;
	uint64_t *resume = (uint64_t *)header.resume_cell;

	event->signal = (uint32_t)signal_number;
	event->trap = (uint32_t)regs[REG_TRAPNO];
	event->error = (uint64_t)regs[REG_ERR];
	event->cr2 = (uint64_t)regs[REG_CR2];
	event->rip = (uint64_t)regs[REG_RIP];
	event->rflags = (uint64_t)regs[REG_EFL];
	for (int i = 0; i < 16; i++)
		event->gpr[i] = (uint64_t)regs[context_index[i]];
	/* A component in its initial state is not written. */
	if (*(const uint64_t *)(xsave + XSTATE_BV) & XSTATE_AVX)
		memcpy(event->ymm_high, xsave + XSAVE_AVX, YMM_HIGH_BYTES);
	memcpy(event->fx, xsave, FX_COMPARED);
	if (!(*(const uint64_t *)(xsave + XSTATE_BV) & XSTATE_SSE))
		memset(event->fx + FX_XMM, 0, FX_COMPARED - FX_XMM);
	if (event->trap == TRAP_BREAKPOINT || signal_number == SIGSYS || *resume == 0 || run->nr_events == MAX_EVENTS)
		return 0;
	regs[REG_RIP] = (greg_t)*resume;
	regs[REG_EFL] &= ~ARITHMETIC_FLAGS;
	*resume = 0;
	return 1;
}

static void on_signal(int signal_number, siginfo_t *info, void *raw)
{
	ucontext_t *context = raw;
	(void)info;

	if (signal_number == SIGPROF) {
		/* A program that outlives two ticks hangs. */
		if (!started || seen_by_timer != current) {
			seen_by_timer = current;
			return;
		}
		run_at(current)->timeout = 1;
	} else if (started && note(context, signal_number)) {
		return;
	}
	if (started) {
		memcpy(run_at(current)->image, memory, header.image_bytes);
		current++;
	}
	started = 1;
	if (current == header.count)
		siglongjmp(finished, 1);
	enter(context);
}

static void map_regions(void)
{
	int file = memfd_create("image", 0);

	if (file < 0 || ftruncate(file, header.image_bytes) != 0)
		_exit(4);
	memory = mmap(NULL, header.image_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
	if (memory == MAP_FAILED)
		_exit(4);
	for (uint32_t i = 0; i < header.nr_regions; i++) {
		struct region *region = &header.regions[i];
		size_t bytes = (size_t)region->pages * 0x1000;
		void *at = mmap((void *)region->address, bytes, (int)region->protection,
				MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, file, (off_t)region->page * 0x1000);
		if (at != (void *)region->address)
			_exit(4);
		/* All pages present: an error code tells rights from absence. */
		for (size_t offset = 0; offset < bytes; offset += 0x1000)
			(void)*(volatile uint8_t *)(region->address + offset);
	}
}

static void close_the_door(void)
{
#define LET_PASS(number) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		LET_PASS(SYS_rt_sigreturn),
		LET_PASS(SYS_rt_sigprocmask),
		LET_PASS(SYS_write),
		LET_PASS(SYS_setitimer),
		LET_PASS(SYS_exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		_exit(6);
}

int main(void)
{
	static uint8_t signal_stack[1 << 16];
	static const int signals[] = { SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGSYS, SIGPROF };
	stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof(signal_stack) };
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct itimerval tick = { { 0, TICK_MICROSECONDS }, { 0, TICK_MICROSECONDS } };
	struct itimerval none = { { 0, 0 }, { 0, 0 } };

	read_all(&header, sizeof(header));
	program_stride = sizeof(struct program) + header.image_bytes;
	run_stride = sizeof(struct run) + header.image_bytes;
	programs = malloc(program_stride * header.count);
	runs = calloc(header.count, run_stride);
	if (!programs || !runs || header.nr_regions > MAX_REGIONS)
		return 5;
	read_all(programs, program_stride * header.count);
	map_regions();
	syscall(SYS_arch_prctl, ARCH_SET_GS, header.gs_base);
	sigaltstack(&stack, NULL);
	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
	setitimer(ITIMER_PROF, &tick, NULL);
	if (sigsetjmp(finished, 1) == 0) {
		close_the_door();
		__builtin_trap();
	}
	setitimer(ITIMER_PROF, &none, NULL);
	write_all(runs, run_stride * header.count);
	_exit(0);
}
