/**
 * Tests of atomicity: threads change the same bytes with locked instructions, a given number of times each; what they
 * add up to tells whether any change was lost. Bytes lie on their size, inside an aligned word, across a cache line and
 * across a page. Intel SDM vol. 3 section 9.1.2.2: LOCK holds whatever the alignment.
 */
import { COUNTERS, PAGE } from './layout.ts';

export interface AtomicityTest {
  readonly name: string;
  /** Of the rounds asked for, this part: bytes that no single access can change stop all CPUs each time. */
  readonly part: number;
  program(thread: number, rounds: number): string;
  /** What is wrong in the end, if anything. */
  problem(view: DataView, nrThreads: number, rounds: number): string | undefined;
}

const PLACES = [
  { name: 'aligned', at: COUNTERS, part: 10 },
  { name: 'in a word', at: COUNTERS + 1, part: 0.2 },
  { name: 'across words', at: COUNTERS + 5, part: 0.01 },
  { name: 'across lines', at: COUNTERS + 61, part: 0.01 },
  { name: 'across pages', at: COUNTERS + PAGE - 3, part: 0.01 },
] as const;

const loop = (rounds: number, body: string): string => `mov ebp, ${rounds}\nagain:\n${body}\ndec ebp\njnz again`;

type Size = 2 | 4 | 8;
const TYPE: Record<Size, string> = { 2: 'word', 4: 'dword', 8: 'qword' };
const ACCUMULATOR: Record<Size, string> = { 2: 'ax', 4: 'eax', 8: 'rax' };
const SOURCE: Record<Size, string> = { 2: 'bx', 4: 'ebx', 8: 'rbx' };

function valueAt(view: DataView, at: number, size: Size): bigint {
  if (size === 8) return view.getBigUint64(at, true);
  return BigInt(size === 4 ? view.getUint32(at, true) : view.getUint16(at, true));
}

/** One that adds 1 each round. */
function counting(name: string, sizes: readonly Size[], body: (at: number, size: Size) => string): AtomicityTest[] {
  return sizes.flatMap((size) =>
    PLACES.map((place) => ({
      name: `${name} ${TYPE[size]} ${place.name}`,
      part: size === 8 && place.name === 'in a word' ? 0.01 : place.part,
      program: (_thread: number, rounds: number) => loop(rounds, body(place.at, size)),
      problem(view: DataView, nrThreads: number, rounds: number): string | undefined {
        const found = valueAt(view, place.at, size);
        const expected = BigInt.asUintN(size * 8, BigInt(nrThreads * rounds));
        return found === expected ? undefined : `${found} instead of ${expected}`;
      },
    })),
  );
}

const COUNTER_16 = COUNTERS;
/** Two threads change overlapping bytes with accesses of different places: neither may lose the other's. */
const overlapping: AtomicityTest = {
  name: 'split LOCK ADD beside aligned LOCK INC',
  part: 0.01,
  program: (thread, rounds) =>
    loop(
      rounds,
      thread % 2 === 0
        ? `mov rbx, 0x100000000\nlock add qword [${COUNTERS + 60}], rbx`
        : `lock inc dword [${COUNTERS + 64}]`,
    ),
  problem(view, nrThreads, rounds) {
    const found = view.getUint32(COUNTERS + 64, true);
    return found === nrThreads * rounds ? undefined : `${found} instead of ${nrThreads * rounds}`;
  },
};

/** Shows that the threads do meet: without LOCK changes get lost, unless the machine never runs two threads at a time. */
export const UNLOCKED: AtomicityTest = {
  name: 'INC dword without LOCK',
  part: 10,
  program: (_thread, rounds) => loop(rounds, `inc dword [${COUNTERS}]`),
  problem(view, nrThreads, rounds) {
    const lost = nrThreads * rounds - view.getUint32(COUNTERS, true);
    return lost === 0 ? undefined : `${lost} lost`;
  },
};

export const ATOMICITY: readonly AtomicityTest[] = [
  ...counting('LOCK INC', [2, 4, 8], (at, size) => `lock inc ${TYPE[size]} [${at}]`),
  ...counting('LOCK XADD', [4, 8], (at, size) => `mov ebx, 1\nlock xadd ${TYPE[size]} [${at}], ${SOURCE[size]}`),
  ...counting(
    'LOCK CMPXCHG',
    [4, 8],
    (at, size) => `mov ${ACCUMULATOR[size]}, ${TYPE[size]} [${at}]
retry:
lea ${size === 8 ? 'rbx, [rax + 1]' : 'ebx, [rax + 1]'}
lock cmpxchg ${TYPE[size]} [${at}], ${SOURCE[size]}
jne retry`,
  ),
  ...counting(
    'LOCK CMPXCHG8B',
    [8],
    (at) => `mov eax, dword [${at}]
mov edx, dword [${at + 4}]
retry:
mov ebx, eax
mov ecx, edx
add ebx, 1
adc ecx, 0
lock cmpxchg8b qword [${at}]
jne retry`,
  ),
  ...counting(
    'XCHG as a lock',
    [4],
    (at) => `take:
mov eax, 1
xchg dword [${COUNTERS + 2 * PAGE}], eax
test eax, eax
jnz take
inc dword [${at}]
mov dword [${COUNTERS + 2 * PAGE}], 0`,
  ),
  {
    name: 'LOCK CMPXCHG16B aligned',
    part: 0.1,
    program: (_thread, rounds) =>
      loop(
        rounds,
        `mov rax, qword [${COUNTER_16}]
mov rdx, qword [${COUNTER_16 + 8}]
retry:
lea rbx, [rax + 1]
lea rcx, [rdx + 3]
lock cmpxchg16b [${COUNTER_16}]
jne retry`,
      ),
    problem(view, nrThreads, rounds) {
      const [low, high] = [view.getBigUint64(COUNTER_16, true), view.getBigUint64(COUNTER_16 + 8, true)];
      const n = BigInt(nrThreads * rounds);
      return low === n && high === 3n * n ? undefined : `${low}, ${high} instead of ${n}, ${3n * n}`;
    },
  },
  ...PLACES.map((place) => ({
    name: `LOCK BTS dword ${place.name}`,
    part: place.part,
    // Each bit is taken by one thread and given back by LOCK BTR: never by two at a time.
    program: (_thread: number, rounds: number) =>
      loop(
        rounds,
        `take:
lock bts dword [${place.at}], 9
jc take
inc dword [${COUNTERS + 2 * PAGE}]
lock btr dword [${place.at}], 9`,
      ),
    problem(view: DataView, nrThreads: number, rounds: number): string | undefined {
      const found = view.getUint32(COUNTERS + 2 * PAGE, true);
      const left = view.getUint32(place.at, true);
      if (left !== 0) return `bits 0x${left.toString(16)} are left`;
      return found === nrThreads * rounds ? undefined : `${found} instead of ${nrThreads * rounds}`;
    },
  })),
  overlapping,
];
