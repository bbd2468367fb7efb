/** The daemons of a host, in the order they start. One row each; docker-compose.yml has a service for each row. */
export interface DaemonRow {
  readonly name: string;
  /** Node flags; the hypervisor's keep background compiles off the vCPUs' cores and optimise the interpreter at once (docs/RATIONALE.md). */
  readonly nodeFlags: readonly string[];
  /** Guests do not survive the end of this one: the host goes down with it. Others are restarted. */
  readonly vital: boolean;
}

export const daemons: readonly DaemonRow[] = [
  { name: 'hypervisor', nodeFlags: ['--v8-pool-size=1', '--wasm-tier-mask-for-testing=1'], vital: true },
  { name: 'xenstored', nodeFlags: [], vital: true },
  { name: 'xenconsoled', nodeFlags: [], vital: false },
  { name: 'blkback', nodeFlags: [], vital: false },
  { name: 'netback', nodeFlags: [], vital: false },
  { name: 'xend', nodeFlags: [], vital: false },
];
