/** One PV vCPU for tests: record, a fake engine over pages of its own, event channels that do nothing, calls recorded. */
import { CPU_STATE_SIZE, CpuState, ExitReason, newCounters, RFLAGS, SEG } from '@xenhost/cpu';
import type { Engine, Exit, PageFault } from '@xenhost/cpu';
import { FLAT_RING3_CS64, FLAT_RING3_DS } from '@xenhost/xen-abi';
import type { EventChannels } from '../event/api.ts';
import type { CallerMemory, HypercallHandler, HypercallResult } from '../hypercall/types.ts';
import { MachineMemory } from '../state/machine-memory.ts';
import { DomainFlag, VCPU_RECORD_FRAMES } from '../state/records.ts';
import { domainRef, vcpuRef } from '../state/refs.ts';
import type { Pv, PvModules } from './api.ts';
import { FlatSegment } from './constants.ts';
import { createPv } from './pv.ts';

const PAGE = 4096n;
export const KERNEL_STACK = 0xffff_8880_0001_0000n;
export const USER_STACK = 0x7fff_0000_0000n;
export const CODE = 0xffff_ffff_8100_0000n;
export const HANDLER = 0xffff_ffff_8200_0000n;
/** Frame of the kernel's and of the user's L4. */
export const KERNEL_TABLE = 700;
export const USER_TABLE = 701;

class FakeEngine implements Engine {
  onExit: Engine['onExit'];
  readonly state = new CpuState(new Uint8Array(CPU_STATE_SIZE));
  readonly exit: Exit = {
    reason: ExitReason.budget, vector: 0, errorCode: 0, hasErrorCode: false, address: 0n, length: 0, port: 0, size: 0,
    isWrite: false, msr: 0,
  }; // prettier-ignore
  readonly pages = new Map<bigint, Uint8Array>();
  /** Selectors that load, besides null ones. */
  readonly loadable = new Set<number>([0x33, 0x2b]);
  readonly counters = newCounters();

  map(address: bigint): void {
    this.pages.set(address / PAGE, new Uint8Array(4096));
  }
  put(address: bigint, bytes: readonly number[]): void {
    this.writeVirtual(address, Uint8Array.from(bytes));
  }
  word(address: bigint): bigint {
    const bytes = new Uint8Array(8);
    if (this.readVirtual(address, bytes)) throw new Error(`nothing at ${address.toString(16)}`);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }
  readVirtual(address: bigint, into: Uint8Array): PageFault | undefined {
    return this.#each(address, into.length, 4, (page, at, n) => {
      into[n] = page[at] ?? 0;
    });
  }
  writeVirtual(address: bigint, from: Uint8Array): PageFault | undefined {
    return this.#each(address, from.length, 6, (page, at, n) => {
      page[at] = from[n] ?? 0;
    });
  }
  loadSegment(register: 'es' | 'cs' | 'ss' | 'ds' | 'fs' | 'gs', selector: number): boolean {
    if (selector > 3 && selector !== FLAT_RING3_DS && !this.loadable.has(selector)) return false;
    const like = register === 'cs' ? FlatSegment.code64 : FlatSegment.data;
    this.state.setSegment(SEG[register], { ...like, selector, base: BigInt(selector) << 32n });
    return true;
  }
  run(): ExitReason {
    throw new Error('a fake engine does not run');
  }
  load(): void {}
  save(): void {}
  stateChanged(): void {}
  flushTlb(): void {}
  flushAllTranslations(): void {}
  switchRoot(): void {}
  dropMapping(): void {}
  dropRoot(): void {}
  hostAddress(): number {
    return -1;
  }
  invalidatePage(): void {}
  invalidateCode(): void {}
  dropWriteTranslations(): void {}

  #each(address: bigint, length: number, errorCode: number, body: (page: Uint8Array, at: number, n: number) => void) {
    for (let n = 0; n < length; n++) {
      const at = BigInt.asUintN(64, address + BigInt(n));
      if (!this.pages.has(at / PAGE)) return { address: at, errorCode };
    }
    for (let n = 0; n < length; n++) {
      const at = BigInt.asUintN(64, address + BigInt(n));
      body(this.pages.get(at / PAGE) ?? new Uint8Array(0), Number(at % PAGE), n);
    }
    return undefined;
  }
}

export class FakeVcpu {
  readonly memory = MachineMemory.allocate(4 << 20);
  readonly engine = new FakeEngine();
  readonly crashes: string[] = [];
  readonly dispatched: bigint[] = [];
  readonly log: string[] = [];
  nowNs = 1_000_000n;
  deliverable = false;
  fixesPageFaults = false;
  cpuidFeatures = { leaf1: { ecx: 1 << 26, edx: 1 << 2 }, leaf7: 1 };
  readonly domain = domainRef(this.memory, 1);
  readonly vcpu = vcpuRef(this.memory, 2);
  readonly modules: PvModules;
  readonly pv: Pv;

  constructor() {
    const { domain, vcpu, engine, memory } = this;
    domain.v.flags = DomainFlag.pv;
    vcpu.v.infoMfn = 2 + VCPU_RECORD_FRAMES;
    Object.assign(vcpu.v, {
      kernelMode: 1,
      kernelSp: KERNEL_STACK,
      guestTable: KERNEL_TABLE,
      guestTableUser: USER_TABLE,
    });
    this.modules = {
      memory,
      mm: {
        fixPageFault: () => this.fixesPageFaults,
        switchTables: (v, e) => {
          const table = v.v.kernelMode !== 0 ? v.v.guestTable : v.v.guestTableUser;
          e.state.cr3 = BigInt(table) << 12n;
        },
        setGdt: (v, frames, entries) => {
          this.log.push(`gdt ${frames.join(',')} ${entries}`);
          v.v.gdtEntries = entries;
          return 0;
        },
        updateDescriptor: (_v, address, descriptor) => {
          this.log.push(`descriptor ${address} ${descriptor}`);
          return 0;
        },
        setBaseTable: (v, mfn, user) => {
          if (mfn === 0xbadn) return -22;
          v.v[user ? 'guestTableUser' : 'guestTable'] = Number(mfn);
          return 0;
        },
        loadBaseTable: (v, _e, mfn) => {
          v.v.guestTable = Number(mfn);
          return 0;
        },
        setLdt: () => 0,
        gdtBase: () => 0xffff_8200_0000_0000n,
        ldtBase: () => 0xffff_8200_0001_0000n,
      },
      events: { hasDeliverable: () => this.deliverable } as unknown as EventChannels,
      domainOf: () => domain,
      vcpu: () => vcpu,
      dispatchHypercall: (_v, e) => this.dispatched.push(e.state.rax),
      crashDomain: (_d, _v, text) => this.crashes.push(text),
      cpuid: (_v, leaf) => {
        if (leaf === 1) return { eax: 1, ebx: 2, ...this.cpuidFeatures.leaf1 };
        if (leaf === 7) return { eax: 0, ebx: this.cpuidFeatures.leaf7, ecx: 0, edx: 0 };
        if (leaf === 0xd) return { eax: 7, ebx: 0, ecx: 0, edx: 0 };
        return { eax: 0x1234_5678, ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x8000_0001 };
      },
      readTsc: () => 0x11_2233_4455n,
      systemTimeNs: () => this.nowNs,
      wallTimeNs: () => 0n,
      kick: () => this.log.push('kick'),
    };
    this.pv = createPv(this.modules);
    const { state } = engine;
    state.reset();
    state.setSegment(SEG.cs, FlatSegment.code64);
    state.setSegment(SEG.ss, FlatSegment.data);
    Object.assign(state, {
      rip: CODE,
      rsp: KERNEL_STACK - 0x108n,
      rcx: 0xccn,
      r11: 0x11n,
      rflags: RFLAGS.if | RFLAGS.zf,
    });
    state.cr3 = BigInt(KERNEL_TABLE) << 12n;
    state.kernelGsBase = 0x5000n;
    state.setSegment(SEG.gs, { ...state.segment(SEG.gs), base: 0x6000n });
    for (const page of [KERNEL_STACK - PAGE, KERNEL_STACK, USER_STACK - PAGE, CODE, CODE + PAGE]) engine.map(page);
  }

  get mask(): number {
    return this.memory.u8[this.vcpu.v.infoMfn * 4096 + 1] ?? -1;
  }
  set mask(value: number) {
    this.memory.u8[this.vcpu.v.infoMfn * 4096 + 1] = value;
  }
  get cr2(): bigint {
    return this.memory.dv.getBigUint64(this.vcpu.v.infoMfn * 4096 + 16, true);
  }

  /** Goes to user mode as an iret would, at USER_STACK - 0x10. */
  enterUser(): void {
    this.pv.toggleMode(this.vcpu, this.engine);
    this.engine.state.rsp = USER_STACK - 0x10n;
    this.engine.state.setSegment(SEG.cs, { ...FlatSegment.code64, selector: 0x33 });
    this.engine.state.setSegment(SEG.ss, { ...FlatSegment.data, selector: 0x2b });
  }

  /** Registers a handler at HANDLER + vector. */
  handle(vector: number, flags = 0): void {
    expect(this.call(this.pv.hypercalls.set_trap_table, [1n], trapTable([[vector, flags]]))).toBe(0);
  }

  exit(reason: ExitReason, fields: Partial<Exit> = {}) {
    Object.assign(this.engine.exit, { hasErrorCode: false, errorCode: 0, length: 0 }, fields, { reason });
    return this.pv.handleExit(this.vcpu, this.engine, this.engine.exit);
  }

  /** Calls a hypercall whose pointers are offsets + 1 into `bytes`. */
  call(handler: HypercallHandler, args: readonly bigint[], bytes: Uint8Array = new Uint8Array(0)): HypercallResult {
    const memory: CallerMemory = {
      read: (address, length) =>
        address >= 1n && Number(address) - 1 + length <= bytes.length
          ? bytes.slice(Number(address) - 1, Number(address) - 1 + length)
          : undefined,
      write: (address, data) => {
        if (address < 1n || Number(address) - 1 + data.length > bytes.length) return false;
        bytes.set(data, Number(address) - 1);
        return true;
      },
    };
    const { domain, vcpu, engine } = this;
    const rest = { domid: domain.domid, domain, vcpu, engine, memory, shouldPreempt: () => false };
    return handler({ kind: 'pv64', args: [...args, 0n, 0n, 0n, 0n, 0n, 0n].slice(0, 6), ...rest });
  }

  /** The words at the handler's stack pointer. */
  frame(words: number): bigint[] {
    return Array.from({ length: words }, (_, n) => this.engine.word(this.engine.state.rsp + 8n * BigInt(n)));
  }
}

export function trapTable(entries: readonly (readonly [number, number])[]): Uint8Array {
  const bytes = new Uint8Array((entries.length + 1) * 16);
  const dv = new DataView(bytes.buffer);
  for (const [n, [vector, flags]] of entries.entries()) {
    dv.setUint8(16 * n, vector);
    dv.setUint8(16 * n + 1, flags);
    dv.setUint16(16 * n + 2, FLAT_RING3_CS64, true);
    dv.setBigUint64(16 * n + 8, HANDLER + BigInt(vector), true);
  }
  return bytes;
}
