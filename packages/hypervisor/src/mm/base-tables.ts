/** CR3 of PV vCPUs: the kernel's and the user's L4, and loading them (Xen's `new_guest_cr3`, `toggle_guest_pt`). */
import { Errno } from '@xenhost/base';
import type { Engine } from '@xenhost/cpu';
import type { VcpuRef } from '../state/refs.ts';
import { frameNumber } from './access.ts';
import { FrameType } from './api.ts';
import { RESTART } from './types.ts';
import type { PageTypes } from './types.ts';

export class BaseTables {
  readonly #types: PageTypes;
  constructor(types: PageTypes) {
    this.#types = types;
  }

  /** Points CR3 at the table of the vCPU's mode. Translations made under it before are used again. */
  switchTables(vcpu: VcpuRef, engine: Engine): void {
    engine.switchRoot(vcpu.v.kernelMode ? vcpu.v.guestTable : vcpu.v.guestTableUser);
  }

  /** Takes an L4 as the kernel's base, or the user's (0: none). 0, -EINVAL or RESTART (nothing changed). */
  set(vcpu: VcpuRef, value: bigint, user: boolean): number {
    const mfn = frameNumber(value);
    const old = user ? vcpu.v.guestTableUser : vcpu.v.guestTable;
    if (mfn === old) return 0;
    if (mfn === 0 && !user) return -Errno.EINVAL;
    if (mfn !== 0) {
      const result = this.#types.getWithType(mfn, vcpu.domid, FrameType.l4);
      if (result !== 0) return result === RESTART ? RESTART : -Errno.EINVAL;
    }
    if (user) vcpu.v.guestTableUser = mfn;
    else vcpu.v.guestTable = mfn;
    if (old !== 0) this.#types.putWithType(old);
    return 0;
  }

  /** Drops both bases of a vCPU that is not loaded. */
  reset(vcpu: VcpuRef): void {
    const { guestTable, guestTableUser } = vcpu.v;
    vcpu.v.guestTable = 0;
    vcpu.v.guestTableUser = 0;
    vcpu.v.translationsOn = 0;
    if (guestTable !== 0) this.#types.putWithType(guestTable);
    if (guestTableUser !== 0) this.#types.putWithType(guestTableUser);
  }
}
