/**
 * Litmus tests of memory ordering, with what x86-TSO says of each outcome (Sewell et al., "x86-TSO", CACM 2010; Intel SDM
 * vol. 3 section 9.2). A thread finds its variables at [rdi + X] and [rdi + Y], both 0, and leaves what it read in EAX, EBX.
 */
import { X, Y } from './layout.ts';

export interface Outcome {
  /** EAX and EBX of each thread. */
  readonly a: readonly number[];
  readonly b: readonly number[];
  /** The variables in the end. */
  readonly x: number;
  readonly y: number;
}

export interface OrderingTest {
  readonly name: string;
  readonly threads: readonly string[];
  /** The outcome that the test is about. */
  is(outcome: Outcome): boolean;
  readonly tso: 'forbidden' | 'allowed';
}

const x = `dword [rdi + ${X}]`;
const y = `dword [rdi + ${Y}]`;
const write = (place: string, value: number): string => `mov ${place}, ${value}\n`;
const read = (register: 'eax' | 'ebx', place: string): string => `mov ${register}, ${place}\n`;

export const ORDERING: readonly OrderingTest[] = [
  {
    name: 'MP',
    threads: [write(x, 1) + write(y, 1), read('eax', y) + read('ebx', x)],
    is: ({ a, b }) => a[1] === 1 && b[1] === 0,
    tso: 'forbidden',
  },
  {
    name: 'MP+rep stos',
    threads: [`push rdi\npush rcx\nmov eax, 1\nmov ecx, 1\nrep stosd\npop rcx\npop rdi\n${write(y, 1)}`, read('eax', y) + read('ebx', x)],
    is: ({ a, b }) => a[1] === 1 && b[1] === 0,
    tso: 'forbidden',
  },
  {
    name: 'SB',
    threads: [write(x, 1) + read('eax', y), write(y, 1) + read('eax', x)],
    is: ({ a }) => a[0] === 0 && a[1] === 0,
    tso: 'allowed',
  },
  {
    name: 'SB+mfence',
    threads: [`${write(x, 1)}mfence\n${read('eax', y)}`, `${write(y, 1)}mfence\n${read('eax', x)}`],
    is: ({ a }) => a[0] === 0 && a[1] === 0,
    tso: 'forbidden',
  },
  {
    name: 'SB+lock or',
    threads: [`${write(x, 1)}lock or dword [rsp - 64], 0\n${read('eax', y)}`, `${write(y, 1)}lock or dword [rsp - 64], 0\n${read('eax', x)}`],
    is: ({ a }) => a[0] === 0 && a[1] === 0,
    tso: 'forbidden',
  },
  {
    name: 'SB+xchg',
    threads: [`mov ebx, 1\nxchg ${x}, ebx\n${read('eax', y)}`, `mov ebx, 1\nxchg ${y}, ebx\n${read('eax', x)}`],
    is: ({ a }) => a[0] === 0 && a[1] === 0,
    tso: 'forbidden',
  },
  {
    name: 'LB',
    threads: [read('eax', x) + write(y, 1), read('eax', y) + write(x, 1)],
    is: ({ a }) => a[0] === 1 && a[1] === 1,
    tso: 'forbidden',
  },
  {
    name: 'CoRR',
    threads: [write(x, 1), read('eax', x) + read('ebx', x)],
    is: ({ a, b }) => a[1] === 1 && b[1] === 0,
    tso: 'forbidden',
  },
  {
    name: '2+2W',
    threads: [write(x, 1) + write(y, 2), write(y, 1) + write(x, 2)],
    is: (outcome) => outcome.x === 1 && outcome.y === 1,
    tso: 'forbidden',
  },
  {
    name: 'S',
    threads: [write(x, 2) + write(y, 1), read('eax', y) + write(x, 1)],
    is: (outcome) => outcome.a[1] === 1 && outcome.x === 2,
    tso: 'forbidden',
  },
  {
    name: 'R',
    threads: [write(x, 1) + write(y, 1), write(y, 2) + read('eax', x)],
    is: (outcome) => outcome.a[1] === 0 && outcome.y === 2,
    tso: 'allowed',
  },
  {
    name: 'WRC',
    threads: [write(x, 1), read('eax', x) + `test eax, eax\njz skip\n${write(y, 1)}skip:\n`, read('eax', y) + read('ebx', x)],
    is: ({ a, b }) => a[2] === 1 && b[2] === 0,
    tso: 'forbidden',
  },
  {
    name: 'IRIW',
    threads: [write(x, 1), write(y, 1), read('eax', x) + read('ebx', y), read('eax', y) + read('ebx', x)],
    is: ({ a, b }) => a[2] === 1 && b[2] === 0 && a[3] === 1 && b[3] === 0,
    tso: 'forbidden',
  },
]; // prettier-ignore
