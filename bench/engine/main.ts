/**
 * Small loops on the CPU engine alone: guest instructions per second of ring-3 code over page tables, best of five.
 * Figures are of this machine; compare ratios. Run with the flags of the hypervisor:
 *   tools/node24 --v8-pool-size=1 --wasm-tier-mask-for-testing=1 bench/main.ts engine
 */
import { assemble, createEngine, ExitReason, SEG, type InterpreterEngine } from '@xenhost/cpu';
import { figure } from '../lib/figures.ts';

const MACHINE_BYTES = 16 << 20;
const PAGE = 4096;
const CODE = 0x10_0000;
const STACK = 0x30_0000;
const DATA = 0x40_0000;
const RIGHTS = 7n;
const ROUNDS = 5;
const BUDGET = 20_000;
const N = 2_000_000;

interface Program {
  readonly name: string;
  /** Instructions that one run retires. */
  readonly instructions: number;
  readonly source: string;
}

const programs: readonly Program[] = [
  {
    name: 'integer',
    instructions: N * 12,
    source: `mov ecx, ${N}
again: add rax, rbx
xor rdx, rax
rol rdx, 7
lea rbx, [rax+rdx*2+5]
shr rax, 3
sub rdx, rbx
and rax, rdx
or rbx, rsi
imul rsi, rax
add rsi, 1
dec ecx
jnz again`,
  },
  {
    name: 'copy',
    instructions: N * 6,
    source: `mov r8d, ${N / 500}
outer: mov ecx, 500
mov rsi, ${DATA}
mov rdi, ${DATA + 16 * PAGE}
again: mov rax, [rsi]
mov [rdi], rax
add rsi, 8
add rdi, 8
dec ecx
jnz again
dec r8d
jnz outer`,
  },
  {
    name: 'branches',
    instructions: N * 9,
    source: `mov ecx, ${N}
again: imul eax, eax, 1103515245
add eax, 12345
test eax, 0x10000
jz even
add ebx, 1
jmp join
even: sub ebx, 1
join: cmp ebx, 1000
jg next
xor edx, eax
next: dec ecx
jnz again`,
  },
  {
    name: 'calls',
    instructions: 832_040 * 9,
    source: `mov edi, 27
call fib
jmp end
fib: cmp edi, 2
jl leaf
push rbx
push rdi
sub edi, 1
call fib
mov ebx, eax
pop rdi
sub edi, 2
call fib
add eax, ebx
pop rbx
ret
leaf: mov eax, edi
ret
end: nop`,
  },
  {
    name: 'short rep movsq',
    instructions: (N / 10) * 6,
    source: `mov r8d, ${N / 10}
outer: mov ecx, 8
mov rsi, ${DATA}
mov rdi, ${DATA + 16 * PAGE}
rep movsq
dec r8d
jnz outer`,
  },
];

function machine(): { engine: InterpreterEngine; bytes: Uint8Array } {
  const pages = MACHINE_BYTES / 65536;
  const machineMemory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const bytes = new Uint8Array(machineMemory.buffer);
  const view = new DataView(machineMemory.buffer);
  const codeFrames = new Set<number>();
  const engine = createEngine(
    { trapMode: 'monitor', nrFrames: MACHINE_BYTES / PAGE },
    {
      machineMemory,
      host: {
        cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }),
        readTsc: () => 0n,
        codeFrameAdded: (frame) => codeFrames.add(frame),
        codeFrameWritten: () => undefined,
        isCodeFrame: (frame) => codeFrames.has(frame),
      },
    },
  );
  view.setBigUint64(0x1000, 0x2000n | RIGHTS, true);
  view.setBigUint64(0x2000, 0x3000n | RIGHTS, true);
  for (let table = 0; table < MACHINE_BYTES >> 21; table++) {
    view.setBigUint64(0x3000 + 8 * table, BigInt(0x4000 + table * PAGE) | RIGHTS, true);
    for (let i = 0; i < 512; i++)
      view.setBigUint64(0x4000 + table * PAGE + 8 * i, BigInt((table * 512 + i) * PAGE) | RIGHTS, true);
  }
  const { state } = engine;
  state.cr3 = 0x1000n;
  state.cr0 = 0x8005_0033n;
  state.cr4 = 0x6b0n;
  state.efer = 0xd01n;
  state.cpl = 3;
  state.setSegment(SEG.cs, { selector: 0x33, attributes: 0xa0fb, limit: 0xffff_ffff, base: 0n });
  state.setSegment(SEG.ss, { selector: 0x2b, attributes: 0xc0f3, limit: 0xffff_ffff, base: 0n });
  engine.stateChanged();
  return { engine, bytes };
}

export function run(): Promise<number> {
  const { engine, bytes } = machine();
  for (const { name, instructions, source } of programs) {
    const { bytes: code } = assemble(`${source}\nsyscall`, { origin: BigInt(CODE) });
    bytes.set(code, CODE);
    engine.invalidateCode(CODE / PAGE);
    let bestMs = Infinity;
    for (let round = 0; round < ROUNDS; round++) {
      engine.state.rip = BigInt(CODE);
      engine.state.rsp = BigInt(STACK);
      const start = performance.now();
      let reason: ExitReason;
      do reason = engine.run(BUDGET);
      while (reason === ExitReason.budget);
      if (reason !== ExitReason.syscall) throw new Error(`${name}: exit ${reason}`);
      bestMs = Math.min(bestMs, performance.now() - start);
    }
    figure(`engine ${name}`, { mips: instructions / bestMs / 1000 });
  }
  return Promise.resolve(0);
}
