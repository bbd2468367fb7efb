/**
 * Hypercalls of the PV CPU: trap table, callbacks, stacks, descriptors, segment bases, debug registers, I/O privilege.
 * `xen/arch/x86/pv/{callback,misc-hypercalls,descriptor-tables}.c`, `xen/arch/x86/physdev.c`.
 */
import { Errno, bytesOf } from '@xenhost/base';
import type { Fields, Layout, View } from '@xenhost/base';
import { SEG } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import {
  CALLBACKF_mask_events,
  CALLBACKOP,
  CALLBACKTYPE,
  CallbackRegister,
  CallbackUnregister,
  FLAT_RING3_CS64,
  PhysdevEoi,
  PhysdevIrqStatusQuery,
  PhysdevOp,
  PhysdevSetIobitmap,
  PhysdevSetIopl,
  SEGBASE,
  TRAP_INFO_MASK_EVENTS,
  TrapInfo,
  XENNMI,
  XennmiCallback,
} from '@xenhost/xen-abi';
import type { HypercallCall, HypercallHandler, HypercallResult } from '../hypercall/types.ts';
import type { VcpuRef } from '../state/refs.ts';
import type { PvModules } from './api.ts';
import { Trap, isCanonical } from './constants.ts';
import type { DebugRegisters } from './debug.ts';
import { setFsBase, setGsBase } from './mode.ts';
import type { PrivilegedEmulator } from './privileged.ts';
import { PvCallbackFlag } from './vcpu-state.ts';
import type { PvVcpuState } from './vcpu-state.ts';

const MAX_GDT_ENTRIES = 7168;
const GDT_ENTRIES_PER_FRAME = 512;
/** PIRQ numbers that exist for a domU; none is bound. */
const NR_PIRQS = 48;
const MAX_IOBITMAP_PORTS = 65536;
/** Trap table entries taken before events are looked at. */
const TRAP_ENTRIES_PER_STEP = 256;
const CALLBACK_FLAG = new Map<number, number>([
  [CALLBACKTYPE.failsafe, PvCallbackFlag.failsafe],
  [CALLBACKTYPE.syscall, PvCallbackFlag.syscall],
  [CALLBACKTYPE.syscall32, PvCallbackFlag.syscall32],
  [CALLBACKTYPE.sysenter, PvCallbackFlag.sysenter],
]);

/** The calling vCPU and its engine. PV hypercalls are not offered to privcmd. */
function caller(call: HypercallCall): { readonly vcpu: VcpuRef; readonly engine: Engine } {
  const { vcpu, engine } = call;
  if (!vcpu || !engine) throw new Error('a PV hypercall without a vCPU');
  return { vcpu, engine };
}

const arg = (call: HypercallCall, n: number): bigint => call.args[n] ?? 0n;
const number32 = (call: HypercallCall, n: number): number => Number(BigInt.asUintN(32, arg(call, n)));

function read<F extends Fields>(call: HypercallCall, n: number, struct: Layout<F>): View<F> | undefined {
  const bytes = call.memory.read(arg(call, n), struct.size);
  return bytes && struct.view(bytesOf(bytes), 0);
}

export class PvHypercalls {
  readonly #modules: PvModules;
  readonly #states: PvVcpuState;
  readonly #debug: DebugRegisters;
  readonly #emulator: PrivilegedEmulator;

  constructor(modules: PvModules, states: PvVcpuState, debug: DebugRegisters, emulator: PrivilegedEmulator) {
    this.#modules = modules;
    this.#states = states;
    this.#debug = debug;
    this.#emulator = emulator;
  }

  /** A null pointer clears the table; else entries until one with address 0 replace those of their vectors. */
  readonly setTrapTable: HypercallHandler = (call) => {
    const { vcpu } = caller(call);
    if (arg(call, 0) === 0n) {
      this.#states.clearTraps(vcpu);
      return 0;
    }
    for (let n = 0; ; n++) {
      if (n > 0 && n % TRAP_ENTRIES_PER_STEP === 0 && call.shouldPreempt()) return 'continue';
      const entry = read(call, 0, TrapInfo);
      if (entry === undefined) return -Errno.EFAULT;
      if (entry.address === 0n) return 0;
      if (!isCanonical(entry.address)) return -Errno.EINVAL;
      const { vector, address, cs, flags } = entry;
      this.#states.setTrap(vcpu, vector, { address, cs: cs | 3, flags });
      call.args[0] = BigInt.asUintN(64, arg(call, 0) + BigInt(TrapInfo.size));
      // A table without an end is a guest's fault, but it must not hold the host.
      if (n >= 2 * TRAP_ENTRIES_PER_STEP) return 'continue';
    }
  };

  readonly setGdt: HypercallHandler = (call) => {
    const { vcpu, engine } = caller(call);
    const entries = number32(call, 1);
    if (entries > MAX_GDT_ENTRIES) return -Errno.EINVAL;
    const nrFrames = Math.ceil(entries / GDT_ENTRIES_PER_FRAME);
    const bytes = call.memory.read(arg(call, 0), nrFrames * 8);
    if (bytes === undefined) return -Errno.EFAULT;
    const { dv } = bytesOf(bytes);
    const frames = Array.from({ length: nrFrames }, (_, n) => dv.getBigUint64(8 * n, true));
    const status = this.#modules.mm.setGdt(vcpu, frames, entries);
    if (status === 0) engine.flushTlb(true);
    return status;
  };

  readonly updateDescriptor: HypercallHandler = (call) =>
    this.#modules.mm.updateDescriptor(caller(call).vcpu, arg(call, 0), arg(call, 1));

  readonly stackSwitch: HypercallHandler = (call) => {
    const { vcpu } = caller(call);
    vcpu.v.kernelSs = (arg(call, 0) & 0xffffn) | 3n;
    vcpu.v.kernelSp = arg(call, 1);
    return 0;
  };

  readonly setCallbacks: HypercallHandler = (call) => {
    const { vcpu } = caller(call);
    this.#register(vcpu, CALLBACKTYPE.event, 0, arg(call, 0));
    this.#register(vcpu, CALLBACKTYPE.failsafe, 0, arg(call, 1));
    this.#register(vcpu, CALLBACKTYPE.syscall, 0, arg(call, 2));
    return 0;
  };

  readonly callbackOp: HypercallHandler = (call) => {
    const { vcpu } = caller(call);
    switch (number32(call, 0)) {
      case CALLBACKOP.register: {
        const callback = read(call, 1, CallbackRegister);
        if (callback === undefined) return -Errno.EFAULT;
        return this.#register(vcpu, callback.type, callback.flags, callback.address);
      }
      case CALLBACKOP.unregister: {
        const callback = read(call, 1, CallbackUnregister);
        if (callback === undefined) return -Errno.EFAULT;
        return this.#unregister(vcpu, callback.type);
      }
      default:
        return -Errno.ENOSYS;
    }
  };

  readonly nmiOp: HypercallHandler = (call) => {
    const { vcpu } = caller(call);
    switch (number32(call, 0)) {
      case XENNMI.register_callback: {
        const callback = read(call, 1, XennmiCallback);
        if (callback === undefined) return -Errno.EFAULT;
        return this.#registerNmi(vcpu, callback.handler_address);
      }
      case XENNMI.unregister_callback:
        return this.#unregister(vcpu, CALLBACKTYPE.nmi);
      default:
        return -Errno.ENOSYS;
    }
  };

  readonly fpuTaskswitch: HypercallHandler = (call) => {
    const { vcpu, engine } = caller(call);
    this.#emulator.setTaskSwitched(vcpu, engine, number32(call, 0) !== 0);
    return 0;
  };

  readonly setDebugreg: HypercallHandler = (call) => {
    const { vcpu, engine } = caller(call);
    const status = this.#debug.write(vcpu, engine.state, number32(call, 0), arg(call, 1));
    if (status === 0) engine.stateChanged();
    return status;
  };

  readonly getDebugreg: HypercallHandler = (call): HypercallResult =>
    this.#debug.read(caller(call).vcpu, number32(call, 0)) ?? -Errno.ENODEV;

  readonly setSegmentBase: HypercallHandler = (call) => {
    const { engine } = caller(call);
    const base = arg(call, 1);
    const { state } = engine;
    const which = number32(call, 0);
    if (which === SEGBASE.GS_USER_SEL) {
      this.#loadUserGs(engine, Number(base & 0xffffn));
      return 0;
    }
    if (which > SEGBASE.GS_USER_SEL || !isCanonical(base)) return -Errno.EINVAL;
    if (which === SEGBASE.FS) setFsBase(state, base);
    else if (which === SEGBASE.GS_KERNEL) setGsBase(state, base);
    else state.kernelGsBase = base;
    engine.stateChanged();
    return 0;
  };

  readonly physdevOp: HypercallHandler = (call) => {
    const { vcpu } = caller(call);
    switch (number32(call, 0)) {
      case PhysdevOp.set_iopl: {
        const request = read(call, 1, PhysdevSetIopl);
        if (request === undefined) return -Errno.EFAULT;
        if (request.iopl > 3) return -Errno.EINVAL;
        vcpu.v.iopl = request.iopl;
        return 0;
      }
      case PhysdevOp.set_iobitmap: {
        const request = read(call, 1, PhysdevSetIobitmap);
        if (request === undefined) return -Errno.EFAULT;
        if (!isCanonical(request.bitmap) || request.nr_ports > MAX_IOBITMAP_PORTS) return -Errno.EINVAL;
        vcpu.v.ioBitmapVa = request.bitmap;
        vcpu.v.ioBitmapPorts = request.nr_ports;
        return 0;
      }
      case PhysdevOp.eoi:
        return read(call, 1, PhysdevEoi) === undefined ? -Errno.EFAULT : -Errno.EINVAL;
      case PhysdevOp.irq_status_query: {
        const request = read(call, 1, PhysdevIrqStatusQuery);
        if (request === undefined) return -Errno.EFAULT;
        if (request.irq >= NR_PIRQS) return -Errno.EINVAL;
        const { bytes } = PhysdevIrqStatusQuery.create({ irq: request.irq, flags: 1 });
        return call.memory.write(arg(call, 1), bytes) ? 0 : -Errno.EFAULT;
      }
      case PhysdevOp.apic_read:
      case PhysdevOp.apic_write:
      case PhysdevOp.alloc_irq_vector:
      case PhysdevOp.map_pirq:
      case PhysdevOp.unmap_pirq:
      case PhysdevOp.restore_msi:
      case PhysdevOp.setup_gsi:
      case PhysdevOp.get_free_pirq:
        // These need rights over real interrupts, which no domU has here.
        return -Errno.EPERM;
      default:
        return -Errno.ENOSYS;
    }
  };

  #register(vcpu: VcpuRef, type: number, flags: number, address: bigint): number {
    if (!isCanonical(address)) return -Errno.EINVAL;
    const flag = CALLBACK_FLAG.get(type) ?? 0;
    switch (type) {
      case CALLBACKTYPE.event:
        vcpu.v.eventCallback = address;
        return 0;
      case CALLBACKTYPE.failsafe:
        vcpu.v.failsafeCallback = address;
        break;
      case CALLBACKTYPE.syscall:
        vcpu.v.syscallCallback = address;
        break;
      case CALLBACKTYPE.syscall32:
        vcpu.v.syscall32Callback = address;
        break;
      case CALLBACKTYPE.sysenter:
        vcpu.v.sysenterCallback = address;
        break;
      case CALLBACKTYPE.nmi:
        return this.#registerNmi(vcpu, address);
      default:
        return -Errno.ENOSYS;
    }
    const masks = (flags & CALLBACKF_mask_events) !== 0;
    vcpu.v.callbackFlags = masks ? vcpu.v.callbackFlags | flag : vcpu.v.callbackFlags & ~flag;
    return 0;
  }

  #unregister(vcpu: VcpuRef, type: number): number {
    if (type === CALLBACKTYPE.nmi) {
      this.#states.setTrap(vcpu, Trap.NMI, { address: 0n, cs: 0, flags: 0 });
      return 0;
    }
    return type === CALLBACKTYPE.event || CALLBACK_FLAG.has(type) ? -Errno.EINVAL : -Errno.ENOSYS;
  }

  /** The NMI callback is entry 2 of the trap table. */
  #registerNmi(vcpu: VcpuRef, address: bigint): number {
    if (!isCanonical(address)) return -Errno.EINVAL;
    this.#states.setTrap(vcpu, Trap.NMI, { address, cs: FLAT_RING3_CS64, flags: TRAP_INFO_MASK_EVENTS });
    return 0;
  }

  /** The user GS selector: its base becomes the inactive one; a bad selector loads null and is no error. */
  #loadUserGs(engine: Engine, given: number): void {
    const { state } = engine;
    const kernelBase = state.segmentBase(SEG.gs);
    const selector = given > 3 ? given | 3 : given;
    if (!engine.loadSegment('gs', selector)) {
      state.setSegment(SEG.gs, { selector: 0, attributes: 0, limit: 0, base: 0n });
    }
    state.kernelGsBase = state.segmentBase(SEG.gs);
    setGsBase(state, kernelBase);
    engine.stateChanged();
  }
}
