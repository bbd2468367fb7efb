/** The daemons of a host, in an order in which they may start. One row each; docker-compose.yml has a service for each row. */
export interface DaemonRow {
  readonly name: string;
  /** Daemons that must be ready before this one starts; others start beside it, and it waits for their sockets itself. */
  readonly after: readonly string[];
  /** Node flags; the hypervisor's keep background compiles off the vCPUs' cores and optimise the interpreter at once (docs/RATIONALE.md). */
  readonly nodeFlags: readonly string[];
  /** What its environment has besides the host's. The hypervisor's returns to the system what compilers used for a moment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Guests do not survive the end of this one: the host goes down with it. Others are restarted. */
  readonly vital: boolean;
}

/** glibc's malloc: few arenas, blocks of 16 KiB and more unmapped when freed: the memory of V8's compilers comes in such (mallopt(3)). */
const frugalMalloc = { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '16384', MALLOC_TRIM_THRESHOLD_: '65536' };
const hypervisorFlags = [
  '--v8-pool-size=1',
  '--expose-gc',
  '--max-semi-space-size=4',
  '--wasm-tier-mask-for-testing=1',
  '--wasm-tiering-budget=2500000',
];

/** xend's heap grows with what it holds, not with what it has just written: lists of a thousand domains are mostly garbage. */
const xendFlags = ['--max-semi-space-size=4', '--heap-growing-percent=20'];

export const daemons: readonly DaemonRow[] = [
  { name: 'hypervisor', after: [], nodeFlags: hypervisorFlags, env: frugalMalloc, vital: true },
  { name: 'xenstored', after: [], nodeFlags: ['--max-semi-space-size=4'], vital: false },
  { name: 'xenconsoled', after: ['xenstored'], nodeFlags: [], vital: false },
  { name: 'blkback', after: ['xenstored'], nodeFlags: [], vital: false },
  { name: 'netback', after: ['xenstored'], nodeFlags: [], vital: false },
  { name: 'xend', after: [], nodeFlags: xendFlags, vital: false },
];
