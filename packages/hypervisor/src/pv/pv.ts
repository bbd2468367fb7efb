/**
 * The PV CPU model: composes traps, emulation, hypercalls and contexts (each in its own file) and does what surrounds
 * a run: events before entry, segments after a switch.
 */
import { ExitReason, OFFSET, SEG } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import { Hypercall } from '@xenhost/xen-abi';
import { VcpuFlag } from '../state/records.ts';
import type { VcpuRef } from '../state/refs.ts';
import { COUNTER } from '../trace/counter-table.ts';
import type { Pv, PvModules, PvOutcome } from './api.ts';
import { Bouncer } from './bounce.ts';
import { Trap, isWriteToPresent } from './constants.ts';
import { GuestContexts, loadLdt } from './context.ts';
import { DebugRegisters } from './debug.ts';
import { Exceptions } from './exceptions.ts';
import { FastExits } from './fast-exits.ts';
import { fillHypercallPage } from './hypercall-page.ts';
import { PvHypercalls } from './hypercalls.ts';
import { iretHandler } from './iret.ts';
import { isKernelMode, loadCode, loadStack, setFsBase, setGsBase, toggleMode } from './mode.ts';
import { PvPorts } from './ports.ts';
import { PrivilegedEmulator } from './privileged.ts';
import { PvCallbackFlag, PvVcpuState } from './vcpu-state.ts';

/** In the order of the failsafe frame. */
const DATA_SEGMENTS = ['ds', 'es', 'fs', 'gs'] as const;

/** Hypercalls on page tables and those of a context switch: neither timers nor the scheduler have to do with them. */
const BRIEF_HYPERCALLS = new Set<number>([
  Hypercall.mmu_update, Hypercall.update_va_mapping, Hypercall.mmuext_op, Hypercall.stack_switch,
]); // prettier-ignore

function isBrief(vcpu: VcpuRef, { state, exit }: Engine): boolean {
  if (!isKernelMode(vcpu)) return false;
  if (exit.reason === ExitReason.exception) return exit.vector === Trap.PF && isWriteToPresent(exit.errorCode);
  if (exit.reason !== ExitReason.syscall || state.dv.getUint32(state.base + OFFSET.rax + 4, true) !== 0) return false;
  return BRIEF_HYPERCALLS.has(state.dv.getUint32(state.base + OFFSET.rax, true));
}

export function createPv(modules: PvModules): Pv {
  const states = new PvVcpuState(modules.memory);
  const debug = new DebugRegisters(states);
  const bouncer = new Bouncer(modules);
  const exceptions = new Exceptions(modules, states, bouncer, debug);
  const ports = new PvPorts(states, () => modules.systemTimeNs());
  const emulator = new PrivilegedEmulator(modules, states, exceptions, debug, ports);
  exceptions.useEmulator(emulator);
  const contexts = new GuestContexts(modules, states, debug, emulator);
  const fast = new FastExits(modules, states);
  const calls = new PvHypercalls(modules, states, debug, emulator);

  const deliverNmi = (vcpu: VcpuRef, engine: Engine): PvOutcome => {
    if ((vcpu.v.flags & VcpuFlag.nmiPending) === 0) return 'resume';
    const state = states.private(vcpu);
    if (state.nmiMasked !== 0) return 'resume';
    vcpu.v.flags &= ~VcpuFlag.nmiPending;
    // Without a handler the NMI is lost, as in Xen.
    if (states.trap(vcpu, Trap.NMI).address === 0n) return 'resume';
    state.nmiMasked = 1;
    return exceptions.inject(vcpu, engine, Trap.NMI);
  };

  return {
    handleExit: (vcpu, engine, exit) => exceptions.handle(vcpu, engine, exit),
    fastExit: (vcpu, engine) => fast.handle(vcpu, engine, engine.exit),
    isBrief,
    hasPending: (vcpu) => (vcpu.v.flags & VcpuFlag.nmiPending) !== 0 || modules.events.hasDeliverable(vcpu),

    beforeEntry(vcpu, engine) {
      if (deliverNmi(vcpu, engine) === 'stop') return 'stop';
      if (!modules.events.hasDeliverable(vcpu)) return 'resume';
      modules.observer?.counters.count(COUNTER.upcalls);
      const upcall = { address: vcpu.v.eventCallback, maskEvents: true };
      return bouncer.bounce(vcpu, engine, upcall, 'an event upcall') ? 'resume' : 'stop';
    },

    switchedIn(vcpu, engine) {
      const { state } = engine;
      modules.mm.switchTables(vcpu, engine);
      state.gdtrBase = modules.mm.gdtBase(vcpu);
      loadLdt(vcpu, state);
      const [fsBase, gsBase] = [state.segmentBase(SEG.fs), state.segmentBase(SEG.gs)];
      const wanted = DATA_SEGMENTS.map((name) => state.selector(SEG[name]));
      let allLoaded = true;
      for (const [n, name] of DATA_SEGMENTS.entries()) {
        if (engine.loadSegment(name, wanted[n] ?? 0)) continue;
        allLoaded = false;
        state.setSegment(SEG[name], { selector: 0, attributes: 0, limit: 0, base: 0n });
      }
      setFsBase(state, fsBase);
      setGsBase(state, gsBase);
      const [cs, ss] = [state.selector(SEG.cs), state.selector(SEG.ss)];
      const codeLoaded = loadCode(engine, cs) && loadStack(engine, ss);
      engine.stateChanged();
      if (!allLoaded) {
        const masks = (vcpu.v.callbackFlags & PvCallbackFlag.failsafe) !== 0;
        return bouncer.failsafe(vcpu, engine, wanted, masks) ? 'resume' : 'stop';
      }
      return codeLoaded ? 'resume' : exceptions.inject(vcpu, engine, Trap.GP, cs & ~3);
    },

    switchingOut() {
      // Bases and selectors are part of the engine's state: saving it saves them.
    },

    toggleMode: (vcpu, engine) => toggleMode(modules.mm, vcpu, engine),
    initContext: (vcpu, context) => contexts.set(vcpu, context),
    readContext: (vcpu) => contexts.get(vcpu),
    fillHypercallPage,

    sendNmi(vcpu) {
      vcpu.v.flags |= VcpuFlag.nmiPending;
      modules.kick(vcpu);
    },

    hypercalls: {
      set_trap_table: calls.setTrapTable,
      set_gdt: calls.setGdt,
      stack_switch: calls.stackSwitch,
      set_callbacks: calls.setCallbacks,
      fpu_taskswitch: calls.fpuTaskswitch,
      set_debugreg: calls.setDebugreg,
      get_debugreg: calls.getDebugreg,
      update_descriptor: calls.updateDescriptor,
      iret: iretHandler(modules, states, bouncer, exceptions),
      set_segment_base: calls.setSegmentBase,
      nmi_op: calls.nmiOp,
      callback_op: calls.callbackOp,
      physdev_op: calls.physdevOp,
    },
  };
}
