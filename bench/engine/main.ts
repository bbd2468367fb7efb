/**
 * Small loops on the CPU engine alone: guest instructions per second of ring-3 code over page tables, best of five.
 * Figures are of this machine; compare ratios. Run with the flags of the hypervisor:
 *   tools/node24 --v8-pool-size=1 --wasm-tier-mask-for-testing=1 bench/main.ts engine
 */
import { assemble, ExitReason } from '@xenhost/cpu';
import { bareEngine } from '../../conformance/lib/bare-engine.ts';
import { figure } from '../lib/figures.ts';

const MACHINE_BYTES = 16 << 20;
const PAGE = 4096;
const CODE = 0x10_0000;
const STACK = 0x30_0000;
const DATA = 0x40_0000;
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

export function run(): Promise<number> {
  const { engine, bytes } = bareEngine({ bytes: MACHINE_BYTES });
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
