/** Why an engine's `run` comes back. */

/** Why `run` came back. Each has a printable name in `exitName`. */
export const ExitReason = {
  /** The budget is used up; nothing else happened. */
  budget: 0,
  /** HLT with its RIP already past it. */
  halt: 1,
  /** A fault or trap: `vector`, `errorCode` (if `hasErrorCode`), `address` for #PF. RIP is the faulting (or next) one. Monitor mode. */
  exception: 2,
  /** INT n, INT3, INTO, INT1: `vector`; RIP is that of the instruction, `length` its size. Monitor mode. */
  softwareInterrupt: 3,
  /** SYSCALL: RIP is past it; RCX and R11 are untouched. Monitor mode. */
  syscall: 4,
  /** SYSENTER: RIP is past it. Monitor mode. */
  sysenter: 5,
  /** VMCALL or VMMCALL: RIP is past it. */
  hypercall: 6,
  /** Port I/O that the TSS or IOPL allows: `port`, `size`, `isWrite`; see `completeIo`. Architectural mode. */
  io: 7,
  /** Access to a guest-physical address that is no memory. */
  mmio: 8,
  /** RDMSR or WRMSR of an MSR that the state table does not hold: `msr`, `isWrite`; RIP is that of the instruction. Architectural mode. */
  msr: 9,
  /** PAUSE was executed often within one run. */
  pause: 10,
  /** Shutdown: a fault while delivering a double fault. */
  tripleFault: 11,
  /** Interrupts became deliverable and `state.interruptWindow` asked to be told. */
  interruptWindow: 12,
} as const;
export type ExitReason = (typeof ExitReason)[keyof typeof ExitReason];

/** Printable name of an exit. */
export function exitName(reason: ExitReason): string {
  return Object.entries(ExitReason).find(([, value]) => value === reason)?.[0] ?? `exit ${String(reason)}`;
}
