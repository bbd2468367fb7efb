/** A small machine with PV domains made by hand, for tests of mm/ and grant/: no engine, no scheduler. */
import { bytesOf, FakeClock } from '@xenhost/base';
import type { Engine } from '@xenhost/cpu';
import { DOMID, MmuExtOp, MmuUpdate } from '@xenhost/xen-abi';
import { createGrants } from '../grant/grants.ts';
import type { GrantTables } from '../grant/api.ts';
import type { HypercallCall, HypercallHandler } from '../hypercall/types.ts';
import type { Core } from '../state/core.ts';
import { HypervisorLock } from '../state/lock.ts';
import { MachineMemory } from '../state/machine-memory.ts';
import { memoryMap } from '../state/memory-map.ts';
import type { MemoryMap } from '../state/memory-map.ts';
import { DomainFlag, DomainLayout, HeaderLayout, VCPU_RECORD_FRAMES, VcpuLayout } from '../state/records.ts';
import { domainRef, vcpuRef } from '../state/refs.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { bootMemory } from './boot.ts';
import { quietObserver } from '../trace/observer.test-kit.ts';
import { createMemory } from './memory.ts';
import type { Memory } from './memory.ts';

export const P = 1n;
export const RW = 2n;
export const US = 4n;
export const A = 0x20n;
export const D = 0x40n;
export const pte = (mfn: number, flags: bigint): bigint => (BigInt(mfn) << 12n) | flags;

/** The caller's memory of hypercalls: bytes at addresses from 0x1000. */
export class Arena {
  readonly bytes = new Uint8Array(1 << 20);
  read(address: bigint, length: number): Uint8Array | undefined {
    const at = Number(address) - 0x1000;
    return at >= 0 && at + length <= this.bytes.length ? this.bytes.slice(at, at + length) : undefined;
  }
  write(address: bigint, bytes: Uint8Array): boolean {
    const at = Number(address) - 0x1000;
    if (!(at >= 0 && at + bytes.length <= this.bytes.length)) return false;
    this.bytes.set(bytes, at);
    return true;
  }
}

export class World {
  readonly memory: MachineMemory;
  readonly map: MemoryMap;
  readonly core: Core;
  readonly mm: Memory;
  readonly grants: GrantTables;
  readonly domains = new Map<number, DomainRef>();
  readonly vcpus = new Map<string, VcpuRef>();
  readonly flushes: string[] = [];
  readonly arena = new Arena();
  readonly engineLog: string[] = [];
  /** Each preemption check takes one off; below 0 it says stop. */
  /** Changes of page tables that the engines' side was told of. */
  readonly changes: string[] = [];
  patience = Infinity;

  constructor(frames = 4096) {
    this.memory = MachineMemory.allocate(frames * 4096);
    this.map = memoryMap(this.memory.nrFrames, 1);
    bootMemory(this.memory, this.map);
    const clock = new FakeClock();
    this.core = {
      ...quietObserver(this.memory, this.map, undefined),
      memory: this.memory, map: this.map, clock,
      header: HeaderLayout.view(this.memory, this.map.header * 4096),
      lock: new HypervisorLock(this.memory, this.map.header * 4096),
      pcpu: undefined, engine: undefined, systemTimeNs: () => clock.monotonicNs(),
    }; // prettier-ignore
    const domain = (id: number) => this.domains.get(id);
    const vcpu = (of: DomainRef, id: number) => this.vcpus.get(`${of.domid}.${id}`);
    this.mm = createMemory(this.core, {
      domain, vcpu,
      tlb: {
        flushVcpus: (of, mask) => void this.flushes.push(`d${of.domid} ${mask.toString(16)}`),
        invalidatePage: (of, mask, address) => void this.flushes.push(`d${of.domid} ${mask} ${address.toString(16)}`),
        flushAll: () => void this.flushes.push('all'),
        flushCaller: (_vcpu, engine) => {
          engine.flushTlb(true);
        },
        leafChanged: (domid, slot, mfn) => void this.changes.push(`d${domid} leaf ${slot} ${mfn}`),
        upperChanged: (domid) => void this.changes.push(`d${domid} upper`),
        rootReleased: (domid, mfn) => void this.changes.push(`d${domid} root ${mfn}`),
      },
      code: { frameChanged: () => undefined },
      crashDomain: () => undefined,
    }); // prettier-ignore
    this.grants = createGrants(this.core, this.mm, { domain, vcpu });
  }

  domain(id: number, options: { maxPages?: number; flags?: number; pages?: number } = {}): DomainRef {
    const frame = this.mm.allocateXenFrame();
    if (frame === undefined) throw new Error('no memory');
    DomainLayout.view(this.memory, frame * 4096).domid = id;
    const domain = domainRef(this.memory, frame);
    domain.v.flags = DomainFlag.pv | (options.flags ?? 0);
    domain.v.maxPages = options.maxPages ?? 1024;
    domain.v.vmAssist = 4;
    this.domains.set(id, domain);
    const record = this.mm.allocateXenFrames(VCPU_RECORD_FRAMES);
    if (record === undefined) throw new Error('no memory');
    VcpuLayout.view(this.memory, record * 4096).domid = id;
    const vcpu = vcpuRef(this.memory, record);
    vcpu.v.kernelMode = 1;
    this.vcpus.set(`${id}.0`, vcpu);
    expect(this.mm.initDomain(domain)).toBe(0);
    expect(this.mm.initVcpu(vcpu)).toBe(0);
    expect(this.grants.initDomain(domain, {})).toBe(0);
    return domain;
  }

  vcpu(domain: DomainRef): VcpuRef {
    const vcpu = this.vcpus.get(`${domain.domid}.0`);
    if (!vcpu) throw new Error('no vCPU');
    return vcpu;
  }

  frames(domain: DomainRef, nr: number): number[] {
    return Array.from({ length: nr }, () => {
      const mfn = this.mm.own.allocate(domain, 0);
      if (mfn === undefined) throw new Error('no memory');
      return mfn;
    });
  }

  /** Writes an entry as the domain builder does, before the table is one. */
  poke(table: number, slot: number, value: bigint): void {
    this.memory.dv.setBigUint64(table * 4096 + slot * 8, value, true);
  }
  peek(table: number, slot: number): bigint {
    return this.memory.dv.getBigUint64(table * 4096 + slot * 8, true);
  }

  /** L4, L3, L2 and L1 chained in slot 0, the L1's first slots mapping `data` writable. */
  tables(domain: DomainRef, data: readonly number[] = []): { l4: number; l3: number; l2: number; l1: number } {
    const [l4 = 0, l3 = 0, l2 = 0, l1 = 0] = this.frames(domain, 4);
    this.poke(l4, 0, pte(l3, P | RW | US));
    this.poke(l3, 0, pte(l2, P | RW | US));
    this.poke(l2, 0, pte(l1, P | RW | US));
    for (const [slot, mfn] of data.entries()) this.poke(l1, slot, pte(mfn, P | RW));
    return { l4, l3, l2, l1 };
  }

  /** A stand-in for the engine of the calling vCPU: notes what it is told. */
  engine(): Engine {
    const log = this.engineLog;
    return {
      state: { cr3: 0n, ldtrBase: 0n, ldtrLimit: 0, ldtrSelector: 0, ldtrAttributes: 0 },
      stateChanged: () => undefined,
      switchRoot: () => undefined,
      flushTlb: () => void log.push('flush'),
      invalidatePage: (address: bigint) => void log.push(`invlpg ${address.toString(16)}`),
    } as unknown as Engine;
  }

  call(domain: DomainRef, args: bigint[], asTool = false): HypercallCall {
    return {
      kind: asTool ? 'privcmd' : 'pv64', domid: domain.domid, domain,
      vcpu: asTool ? undefined : this.vcpu(domain), engine: asTool ? undefined : this.engine(),
      args, memory: this.arena, shouldPreempt: () => this.patience-- <= 0,
    }; // prettier-ignore
  }

  /** Runs to the end, continuations included, counting them. */
  run(handler: HypercallHandler, domain: DomainRef, args: bigint[], asTool = false): number {
    const call = this.call(domain, args, asTool);
    this.continuations = 0;
    for (;;) {
      const before = this.patience;
      const result = handler(call);
      if (result !== 'continue') return Number(result);
      this.continuations++;
      if (before !== Infinity) this.patience = 1;
      if (this.continuations > 100_000) throw new Error('never ends');
    }
  }
  continuations = 0;

  ext(domain: DomainRef, cmd: number, arg1: bigint | number, options: { arg2?: bigint; of?: DomainRef } = {}): number {
    const { bytes } = MmuExtOp.create({ cmd, arg1: BigInt(arg1), arg2: options.arg2 ?? 0n });
    this.arena.write(0x1000n, bytes);
    const of = BigInt(options.of?.domid ?? DOMID.SELF);
    return this.run(this.mm.hypercalls.mmuext_op, domain, [0x1000n, 1n, 0n, of], options.of !== undefined);
  }

  update(domain: DomainRef, table: number, slot: number, value: bigint, command = 0n): number {
    const { bytes } = MmuUpdate.create({ ptr: (BigInt(table) << 12n) + BigInt(slot * 8) + command, val: value });
    this.arena.write(0x1000n, bytes);
    return this.run(this.mm.hypercalls.mmu_update, domain, [0x1000n, 1n, 0n, BigInt(DOMID.SELF)]);
  }

  memoryOp(domain: DomainRef, op: number, bytes: Uint8Array, asTool = false): number {
    this.arena.write(0x1000n, bytes);
    const result = this.run(this.mm.hypercalls.memory_op, domain, [BigInt(op), 0x1000n], asTool);
    bytes.set(this.arena.read(0x1000n, bytes.length) ?? []);
    return result;
  }

  grantOp(domain: DomainRef, op: number, bytes: Uint8Array, asTool = false): number {
    this.arena.write(0x1000n, bytes);
    const result = this.run(this.grants.hypercall, domain, [BigInt(op), 0x1000n, 1n], asTool);
    bytes.set(this.arena.read(0x1000n, bytes.length) ?? []);
    return result;
  }

  audit(): string[] {
    return this.mm.audit([...this.domains.values()]);
  }

  /** Everything of a domain, as its destruction does it. */
  destroy(domain: DomainRef): void {
    domain.v.flags |= DomainFlag.dying;
    while (this.grants.relinquish(domain) === 'continue');
    while (this.mm.relinquish(domain) === 'continue');
  }
}

export const view64 = (bytes: Uint8Array, at: number): bigint => bytesOf(bytes).dv.getBigUint64(at, true);
