/**
 * The hypercalls: number, who may call, who answers. One table for guests and for Domain-0's tools through privcmd; what
 * is not in it answers -ENOSYS. `xen/include/hypercall-defs.c` is Xen's.
 */
import { Hypercall } from '@xenhost/xen-abi';
import type { HypercallName } from '@xenhost/xen-abi';
import type { CallerKind, HypercallHandler } from './types.ts';

export interface HypercallRow {
  readonly name: HypercallName;
  readonly callers: readonly CallerKind[];
  readonly handler: HypercallHandler;
  /** Only privileged domains may make it; others get -EPERM whatever the arguments are. */
  readonly isPrivilegedOnly: boolean;
}

/** Handlers by name; a name without one is not offered. */
export type HypercallHandlers = Readonly<Partial<Record<HypercallName, HypercallHandler>>>;

const PV = ['pv64'] as const;
const ALL = ['pv64', 'privcmd'] as const;

/** Which callers may use what; see facts of the ABI for the HVM columns, which come with HVM guests. */
const CALLERS: Readonly<Partial<Record<HypercallName, readonly CallerKind[]>>> = {
  set_trap_table: PV,
  mmu_update: ALL,
  set_gdt: PV,
  stack_switch: PV,
  set_callbacks: PV,
  fpu_taskswitch: PV,
  sched_op_compat: PV,
  platform_op: ALL,
  set_debugreg: PV,
  get_debugreg: PV,
  update_descriptor: PV,
  memory_op: ALL,
  multicall: PV,
  update_va_mapping: PV,
  set_timer_op: PV,
  event_channel_op_compat: PV,
  xen_version: ALL,
  console_io: ALL,
  physdev_op_compat: PV,
  grant_table_op: ALL,
  vm_assist: PV,
  update_va_mapping_otherdomain: PV,
  iret: PV,
  vcpu_op: PV,
  set_segment_base: PV,
  mmuext_op: ALL,
  nmi_op: PV,
  sched_op: ALL,
  callback_op: PV,
  event_channel_op: ALL,
  physdev_op: PV,
  sysctl: ALL,
  domctl: ALL,
};

const PRIVILEGED_ONLY: readonly HypercallName[] = ['platform_op', 'sysctl', 'domctl'];

export class HypercallTable {
  readonly #rows: (HypercallRow | undefined)[] = [];

  constructor(handlers: HypercallHandlers) {
    for (const [name, callers] of Object.entries(CALLERS) as [HypercallName, readonly CallerKind[]][]) {
      const handler = handlers[name];
      if (!handler) continue;
      this.#rows[Hypercall[name]] = { name, callers, handler, isPrivilegedOnly: PRIVILEGED_ONLY.includes(name) };
    }
  }

  /** The row, when this kind of caller may use it. */
  find(op: bigint, kind: CallerKind): HypercallRow | undefined {
    const row = op >= 0n && op < BigInt(this.#rows.length) ? this.#rows[Number(op)] : undefined;
    return row?.callers.includes(kind) ? row : undefined;
  }
}
