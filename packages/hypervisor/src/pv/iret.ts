/** The iret hypercall: the only way back from a handler, and the only way to user mode. `xen/arch/x86/pv/iret.c`. */
import { bytesOf } from '@xenhost/base';
import { RFLAGS, SEG } from '@xenhost/cpu';
import { FLAT_RING3_CS32, IretContext, VGCF, VMASST } from '@xenhost/xen-abi';
import type { HypercallHandler } from '../hypercall/types.ts';
import { setUpcallMask } from '../event/vcpu-info.ts';
import type { PvModules } from './api.ts';
import { hasAssist } from './bounce.ts';
import type { Bouncer } from './bounce.ts';
import { FlatSegment, Trap } from './constants.ts';
import type { Exceptions } from './exceptions.ts';
import { loadCode, loadStack, toggleMode } from './mode.ts';
import type { PvVcpuState } from './vcpu-state.ts';

const SELECTOR = 0xffffn;

export function iretHandler(
  modules: PvModules,
  states: PvVcpuState,
  bouncer: Bouncer,
  exceptions: Exceptions,
): HypercallHandler {
  return ({ vcpu, engine, domain }) => {
    if (!vcpu || !engine) throw new Error('iret without a vCPU');
    const { state } = engine;
    const bytes = new Uint8Array(IretContext.size);
    if (engine.readVirtual(state.rsp, bytes, true)) {
      bouncer.crash(vcpu, engine, 'cannot read the iret frame');
      return 'noResult';
    }
    const frame = IretContext.view(bytesOf(bytes), 0);
    const toUser = (frame.cs & 3n) === 3n;
    if (toUser && !toggleMode(modules.mm, vcpu, engine)) {
      bouncer.crash(vcpu, engine, 'iret to user mode without user page tables');
      return 'noResult';
    }
    if (hasAssist(domain.v.vmAssist, VMASST.ARCHITECTURAL_IOPL)) {
      vcpu.v.iopl = Number((frame.rflags & RFLAGS.iopl) >> 12n);
    }
    setUpcallMask(modules.memory, vcpu, (frame.rflags & RFLAGS.if) === 0n ? 1 : 0);
    states.unmaskNmi(vcpu);

    state.rax = frame.rax;
    state.rip = frame.rip;
    state.rsp = frame.rsp;
    state.rflags = (frame.rflags & ~(RFLAGS.iopl | RFLAGS.vm)) | RFLAGS.if;
    const cs = Number(frame.cs & SELECTOR) | 3;
    const ss = Number(frame.ss & SELECTOR) | 3;
    if ((frame.flags & BigInt(VGCF.in_syscall)) !== 0n) {
      // The way back is SYSRET: selectors are Xen's flat ones, rcx and r11 hold rip and rflags.
      state.rcx = frame.rip;
      state.r11 = state.rflags;
      state.setSegment(SEG.cs, cs === FLAT_RING3_CS32 ? FlatSegment.code32 : FlatSegment.code64);
      state.setSegment(SEG.ss, FlatSegment.data);
      engine.stateChanged();
      return 'noResult';
    }
    state.rcx = frame.rcx;
    state.r11 = frame.r11;
    const bad = !loadCode(engine, cs) ? cs : !loadStack(engine, ss) ? ss : undefined;
    if (bad !== undefined) {
      // The real IRET would fault with the guest's registers in place: the guest gets the #GP, selectors as it asked.
      state.setSegment(SEG.cs, { ...FlatSegment.code64, selector: cs });
      state.setSegment(SEG.ss, { ...FlatSegment.data, selector: ss });
      engine.stateChanged();
      exceptions.inject(vcpu, engine, Trap.GP, bad & ~3);
      return 'noResult';
    }
    engine.stateChanged();
    return 'noResult';
  };
}
