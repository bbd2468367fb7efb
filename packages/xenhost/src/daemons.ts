/** The daemons of a host, in an order in which they may start. One row each; docker-compose.yml has a service for each row. */
export interface DaemonRow {
  readonly name: string;
  /** Daemons that must be ready before this one starts; others start beside it, and it waits for their sockets itself. */
  readonly after: readonly string[];
  /** Node flags; the hypervisor's keep background compiles off the vCPUs' cores and optimise the interpreter at once (docs/RATIONALE.md). */
  readonly nodeFlags: readonly string[];
  /** Guests do not survive the end of this one: the host goes down with it. Others are restarted. */
  readonly vital: boolean;
}

export const daemons: readonly DaemonRow[] = [
  { name: 'hypervisor', after: [], nodeFlags: ['--v8-pool-size=1', '--wasm-tier-mask-for-testing=1'], vital: true },
  { name: 'xenstored', after: [], nodeFlags: [], vital: true },
  { name: 'xenconsoled', after: ['xenstored'], nodeFlags: [], vital: false },
  { name: 'blkback', after: ['xenstored'], nodeFlags: [], vital: false },
  { name: 'netback', after: ['xenstored'], nodeFlags: [], vital: false },
  { name: 'xend', after: [], nodeFlags: [], vital: false },
];
