/** A machine for tests of event channels: domain and vCPU records in a small memory, frames taken one after another. */
import { domid } from '@xenhost/base';
import type { Domid } from '@xenhost/base';
import { MachineMemory } from '../state/machine-memory.ts';
import { DomainFlag, DomainLayout, VCPU_RECORD_FRAMES } from '../state/records.ts';
import { domainRef, vcpuRef } from '../state/refs.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import type { CallerMemory, HypercallCall } from '../hypercall/types.ts';
import { EventChannelTable } from './channels.ts';

/** Where `FakeHost.memoryOf` puts arguments: any address that is not 0 will do. */
export const ARGUMENT = 0x1000n;

export class FakeHost {
  readonly memory = MachineMemory.allocate(16 << 20);
  readonly domains = new Map<number, DomainRef>();
  readonly kicked: string[] = [];
  readonly held: number[] = [];
  rings = 0;
  /** Frames left to give. */
  budget = Infinity;
  #next = 1;

  readonly events = new EventChannelTable({
    memory: this.memory,
    allocateXenFrame: () => (this.budget-- > 0 ? this.frame() : undefined),
    freeXenFrame: (mfn) => {
      this.memory.frame(mfn).fill(0);
    },
    takeWritableFrame: (_domain, gfn) => {
      if (gfn === 0n || gfn >= BigInt(this.memory.nrFrames)) return undefined;
      this.held.push(Number(gfn));
      return Number(gfn);
    },
    releaseWritableFrame: (_domain, mfn) => {
      this.held.splice(this.held.indexOf(mfn), 1);
    },
    domain: (id) => this.domains.get(id),
    vcpu: (domain, id) => this.vcpu(domain, id),
    kick: (vcpu) => {
      this.kicked.push(`d${vcpu.domid}v${vcpu.vcpuId}`);
    },
    ringControlDoorbell: () => {
      this.rings++;
    },
  });

  frame(count = 1): number {
    const first = this.#next;
    this.#next += count;
    return first;
  }

  addDomain(id: number, nrVcpus: number, maxPorts = 1023): DomainRef {
    const domain = domainRef(this.memory, this.frame());
    domain.v.domid = id;
    const flags = id === 0 ? DomainFlag.privileged : DomainFlag.pv;
    domain.v.flags = flags;
    if (nrVcpus > 0) domain.v.sharedInfoMfn = this.frame();
    for (let i = 0; i < nrVcpus; i++) {
      const vcpu = vcpuRef(this.memory, this.frame(VCPU_RECORD_FRAMES));
      vcpu.v.domid = id;
      vcpu.v.vcpuId = i;
      vcpu.v.infoMfn = domain.v.sharedInfoMfn;
      vcpu.v.infoOffset = i * 64;
      this.memory.u32[(domain.address + DomainLayout.offsets.vcpuFrames) / 4 + i] = vcpu.frame;
    }
    const ref = domainRef(this.memory, domain.frame);
    this.domains.set(id, ref);
    if (this.events.initDomain(ref, { maxPorts }) !== 0) throw new Error('initDomain failed');
    return ref;
  }

  vcpu(domain: DomainRef, id: number): VcpuRef | undefined {
    const frame = this.memory.u32[(domain.address + DomainLayout.offsets.vcpuFrames) / 4 + id];
    return frame ? vcpuRef(this.memory, frame) : undefined;
  }

  /** event_channel_op with one argument structure; the bytes hold the answer afterwards. */
  op(domain: DomainRef, cmd: number, argument: Uint8Array | undefined, writable = true): number {
    const memory: CallerMemory = {
      read: (address, length) =>
        address === ARGUMENT && argument && length <= argument.length ? argument.slice(0, length) : undefined,
      write: (_address, bytes) => {
        if (writable) argument?.set(bytes);
        return writable;
      },
    };
    const call: HypercallCall = {
      kind: domain.domid === 0 ? 'privcmd' : 'pv64',
      domid: domain.domid,
      domain,
      vcpu: this.vcpu(domain, 0),
      engine: undefined,
      args: [BigInt(cmd), ARGUMENT, 0n, 0n, 0n, 0n],
      memory,
      shouldPreempt: () => false,
    };
    return Number(this.events.hypercall(call));
  }
}

export const DOM0: Domid = domid(0);
