/**
 * A hypervisor in miniature for tests of toolstacks: domains with memory, the operations that a domain builder and a
 * domain's life cycle need, no guests that run. Over the fake backend of privcmd. It checks what it is given where real
 * Xen would: owners of frames, page tables at the pin, states of domains.
 */
import { bytesOf, domid as asDomid, Errno } from '@xenhost/base';
import { FakeBackend } from '@xenhost/privcmd/testing';
import type { FakeCall } from '@xenhost/privcmd/testing';
import {
  Domctl, DOMCTL_U, DomctlAddressSize, DomctlCreatedomain, DomctlGetdomaininfo, DomctlHypercallInit, DomctlMaxMem,
  DomctlMaxVcpus, DomctlSchedulerOp, DomctlVcpucontext, Dominf, EvtchnAllocUnbound, EVTCHNOP, GnttabSetupTable,
  Hypercall, MemoryOp, MemoryReservation, MmuExt, MmuExtOp, SchedRemoteShutdown, Sysctl, SYSCTL_U,
  SysctlGetdomaininfolist, SysctlPhysinfo, VcpuGuestContext, XEN_DOMCTL_INTERFACE_VERSION, XenDomctl, XenSysctl,
} from '@xenhost/xen-abi'; // prettier-ignore

const CONTEXT_SIZE = { 64: VcpuGuestContext.size, 32: 2800 } as const;

export interface FakeDomain {
  readonly domid: number;
  readonly handle: Uint8Array;
  readonly maxVcpus: number;
  readonly sharedInfo: number;
  readonly grantTable: number;
  readonly frames: Map<number, Uint8Array>;
  maxPages: number;
  vcpus: number;
  bits: 32 | 64;
  pauses: number;
  shutdown: number | undefined;
  weight: number;
  cap: number;
  context: Uint8Array | undefined;
  pinned: number | undefined;
  hypercallPage: number | undefined;
}

export class FakeXen extends FakeBackend {
  readonly domains = new Map<number, FakeDomain>();
  /** Machine frame to pfn, as the guests see it. */
  readonly m2p = new Map<number, number>();
  totalPages = 1 << 20;
  #nextDomid = 1;
  #nextFrame = 0x1000;

  constructor() {
    super();
    this.handlers.set(Hypercall.domctl, (call) => this.#domctl(call));
    this.handlers.set(Hypercall.sysctl, (call) => this.#sysctl(call));
    this.handlers.set(Hypercall.memory_op, (call) => this.#memoryOp(call));
    this.handlers.set(Hypercall.event_channel_op, (call) => this.#evtchnOp(call));
    this.handlers.set(Hypercall.grant_table_op, (call) => this.#grantOp(call));
    this.handlers.set(Hypercall.mmuext_op, (call) => this.#mmuext(call));
    this.handlers.set(Hypercall.sched_op, (call) => this.#schedOp(call));
  }

  /** The domain, which must exist. */
  domain(domid: number): FakeDomain {
    const domain = this.domains.get(domid);
    if (!domain) throw new Error(`no domain ${domid}`);
    return domain;
  }

  /** Bytes that a virtual address of the guest maps to through its pinned tables, and whether it may write there. */
  walk(
    domain: FakeDomain,
    va: bigint,
  ): { readonly mfn: number; readonly offset: number; readonly writable: boolean } | undefined {
    const levels = domain.bits === 64 ? 4 : 3;
    let mfn = domain.pinned;
    let writable = true;
    for (let level = levels; level >= 1; level--) {
      const page = mfn === undefined ? undefined : domain.frames.get(mfn);
      if (!page) return undefined;
      const slot = Number((va >> (3n + 9n * BigInt(level))) & 511n);
      const entry = bytesOf(page).dv.getBigUint64(slot * 8, true);
      if (!(entry & 1n)) return undefined;
      if (!(entry & 2n)) writable = false;
      mfn = Number((entry & 0xf_ffff_ffff_f000n) >> 12n);
    }
    return mfn === undefined ? undefined : { mfn, offset: Number(va & 4095n), writable };
  }

  #domctl({ args, memory }: FakeCall): number {
    const address = args[0] ?? 0n;
    const raw = memory.read(address, XenDomctl.size);
    if (!raw) return -Errno.EFAULT;
    const bytes = bytesOf(raw);
    const head = XenDomctl.view(bytes, 0);
    if (head.interface_version !== XEN_DOMCTL_INTERFACE_VERSION) return -Errno.EACCES;
    const reply = (): number => (memory.write(address, raw) ? 0 : -Errno.EFAULT);
    if (head.cmd === Domctl.createdomain) {
      head.domain = this.#create(raw.slice(DOMCTL_U)).domid;
      return reply();
    }
    const domain = this.domains.get(head.domain);
    if (!domain) return -Errno.ESRCH;
    switch (head.cmd) {
      case Domctl.destroydomain:
        this.domains.delete(domain.domid);
        this.guests.delete(domain.domid);
        return 0;
      case Domctl.pausedomain:
        domain.pauses++;
        return 0;
      case Domctl.unpausedomain:
        if (domain.pauses === 0) return -Errno.EINVAL;
        domain.pauses--;
        return 0;
      case Domctl.max_mem:
        domain.maxPages = Number(DomctlMaxMem.view(bytes, DOMCTL_U).max_memkb / 4n);
        return 0;
      case Domctl.max_vcpus:
        domain.vcpus = DomctlMaxVcpus.view(bytes, DOMCTL_U).max;
        return domain.vcpus === domain.maxVcpus ? 0 : -Errno.EINVAL;
      case Domctl.set_address_size: {
        const { size } = DomctlAddressSize.view(bytes, DOMCTL_U);
        if (size !== 32 && size !== 64) return -Errno.EINVAL;
        domain.bits = size;
        return 0;
      }
      case Domctl.getdomaininfo:
        this.#info(domain, raw, DOMCTL_U);
        return reply();
      case Domctl.hypercall_init: {
        const mfn = Number(DomctlHypercallInit.view(bytes, DOMCTL_U).gmfn);
        if (!domain.frames.has(mfn)) return -Errno.EACCES;
        domain.hypercallPage = mfn;
        return 0;
      }
      case Domctl.scheduler_op: {
        const view = DomctlSchedulerOp.view(bytes, DOMCTL_U);
        if (view.cmd === 0) Object.assign(domain, { weight: view.weight || domain.weight, cap: view.cap });
        Object.assign(view, { weight: domain.weight, cap: domain.cap });
        return reply();
      }
      case Domctl.setvcpucontext: {
        const { vcpu, ctxt } = DomctlVcpucontext.view(bytes, DOMCTL_U);
        if (vcpu >= domain.vcpus) return -Errno.EINVAL;
        const context = memory.read(ctxt, CONTEXT_SIZE[domain.bits]);
        if (!context) return -Errno.EFAULT;
        domain.context = context;
        return 0;
      }
      default:
        return -Errno.ENOSYS;
    }
  }

  #create(raw: Uint8Array): FakeDomain {
    const view = DomctlCreatedomain.view(bytesOf(raw), 0);
    const domid = this.#nextDomid++;
    const guest = this.addGuest(asDomid(domid));
    const [sharedInfo, grantTable] = [this.#frame(guest.frames), this.#frame(guest.frames)];
    const domain: FakeDomain = {
      domid, sharedInfo, grantTable, frames: guest.frames, maxPages: 0, vcpus: 0, bits: 64, pauses: 1, weight: 256, cap: 0,
      handle: raw.slice(DomctlCreatedomain.offsets.handle, DomctlCreatedomain.offsets.handle + 16),
      maxVcpus: view.max_vcpus, shutdown: undefined, context: undefined, pinned: undefined, hypercallPage: undefined,
    }; // prettier-ignore
    this.domains.set(domid, domain);
    return domain;
  }

  #frame(frames: Map<number, Uint8Array>): number {
    // Every other frame is skipped, so that nobody counts on neighbours.
    this.#nextFrame += 2;
    frames.set(this.#nextFrame, new Uint8Array(4096));
    return this.#nextFrame;
  }

  #info(domain: FakeDomain, raw: Uint8Array, at: number): void {
    const view = DomctlGetdomaininfo.view(bytesOf(raw), at);
    const state = domain.pauses > 0 ? Dominf.paused : Dominf.blocked;
    const down = domain.shutdown === undefined ? 0 : Dominf.shutdown | (domain.shutdown << Dominf.shutdownshift);
    Object.assign(view, {
      domain: domain.domid,
      flags: state | down,
      tot_pages: BigInt(domain.frames.size - 2),
      max_pages: BigInt(domain.maxPages),
      shared_info_frame: BigInt(domain.sharedInfo),
      nr_online_vcpus: domain.context ? 1 : 0,
      max_vcpu_id: domain.vcpus - 1,
    });
    raw.set(domain.handle, at + DomctlGetdomaininfo.offsets.handle);
  }

  #sysctl({ args, memory }: FakeCall): number {
    const address = args[0] ?? 0n;
    const raw = memory.read(address, XenSysctl.size);
    if (!raw) return -Errno.EFAULT;
    const bytes = bytesOf(raw);
    switch (XenSysctl.view(bytes, 0).cmd) {
      case Sysctl.getdomaininfolist: {
        const view = SysctlGetdomaininfolist.view(bytes, SYSCTL_U);
        const list = [...this.domains.values()]
          .filter(({ domid }) => domid >= view.first_domain)
          .slice(0, view.max_domains);
        for (const [i, domain] of list.entries()) {
          const info = new Uint8Array(DomctlGetdomaininfo.size);
          this.#info(domain, info, 0);
          if (!memory.write(view.buffer + BigInt(i * info.length), info)) return -Errno.EFAULT;
        }
        view.num_domains = list.length;
        break;
      }
      case Sysctl.physinfo:
        Object.assign(SysctlPhysinfo.view(bytes, SYSCTL_U), {
          nr_cpus: 2, nr_nodes: 1, cores_per_socket: 2, threads_per_core: 1, cpu_khz: 1_000_000,
          total_pages: BigInt(this.totalPages), free_pages: BigInt(this.totalPages - this.m2p.size),
        }); // prettier-ignore
        break;
      default:
        return -Errno.ENOSYS;
    }
    return memory.write(address, raw) ? 0 : -Errno.EFAULT;
  }

  #memoryOp({ args, memory }: FakeCall): number {
    if (args[0] !== BigInt(MemoryOp.populate_physmap)) return -Errno.ENOSYS;
    const raw = memory.read(args[1] ?? 0n, MemoryReservation.size);
    if (!raw) return -Errno.EFAULT;
    const { extent_start, nr_extents, extent_order, domid } = MemoryReservation.view(bytesOf(raw), 0);
    const domain = this.domains.get(domid);
    if (!domain) return -Errno.ESRCH;
    if (extent_order !== 0) return -Errno.EINVAL;
    const list = memory.read(extent_start, Number(nr_extents) * 8);
    if (!list) return -Errno.EFAULT;
    const { dv } = bytesOf(list);
    let done = 0;
    for (; done < Number(nr_extents) && domain.frames.size - 2 < domain.maxPages; done++) {
      const mfn = this.#frame(domain.frames);
      this.m2p.set(mfn, dv.getUint32(done * 8, true));
      dv.setBigUint64(done * 8, BigInt(mfn), true);
    }
    return memory.write(extent_start, list) ? done : -Errno.EFAULT;
  }

  #evtchnOp({ args, memory }: FakeCall): number {
    if (args[0] !== BigInt(EVTCHNOP.alloc_unbound)) return -Errno.ENOSYS;
    const raw = memory.read(args[1] ?? 0n, EvtchnAllocUnbound.size);
    if (!raw) return -Errno.EFAULT;
    const view = EvtchnAllocUnbound.view(bytesOf(raw), 0);
    if (!this.domains.has(view.dom)) return -Errno.ESRCH;
    view.port = this.guestOffer(asDomid(view.dom));
    return memory.write(args[1] ?? 0n, raw) ? 0 : -Errno.EFAULT;
  }

  #grantOp({ args, memory }: FakeCall): number {
    if (args[0] !== 2n) return -Errno.ENOSYS;
    const raw = memory.read(args[1] ?? 0n, GnttabSetupTable.size);
    if (!raw) return -Errno.EFAULT;
    const view = GnttabSetupTable.view(bytesOf(raw), 0);
    const domain = this.domains.get(view.dom);
    if (!domain) return -Errno.ESRCH;
    const frame = new Uint8Array(8);
    bytesOf(frame).dv.setBigUint64(0, BigInt(domain.grantTable), true);
    view.status = 0;
    return memory.write(view.frame_list, frame) && memory.write(args[1] ?? 0n, raw) ? 0 : -Errno.EFAULT;
  }

  /** Pins: every table must be the domain's own and mapped nowhere writable. */
  #mmuext({ args, memory }: FakeCall): number {
    const raw = memory.read(args[0] ?? 0n, MmuExtOp.size);
    const domain = this.domains.get(Number(args[3] ?? 0n));
    if (!raw || !domain) return raw ? -Errno.ESRCH : -Errno.EFAULT;
    const { cmd, arg1 } = MmuExtOp.view(bytesOf(raw), 0);
    if (cmd !== (domain.bits === 64 ? MmuExt.PIN_L4_TABLE : MmuExt.PIN_L3_TABLE)) return -Errno.EINVAL;
    const tables = new Set<number>();
    const leaves: { mfn: number; writable: boolean }[] = [];
    const visit = (mfn: number, level: number): boolean => {
      const page = domain.frames.get(mfn);
      if (!page) return false;
      tables.add(mfn);
      const { dv } = bytesOf(page);
      for (let slot = 0; slot < 512; slot++) {
        const entry = dv.getBigUint64(slot * 8, true);
        if (!(entry & 1n)) continue;
        const next = Number(entry >> 12n);
        if (!domain.frames.has(next)) return false;
        if (level === 1) leaves.push({ mfn: next, writable: (entry & 2n) !== 0n });
        else if (!visit(next, level - 1)) return false;
      }
      return true;
    };
    if (!visit(Number(arg1), cmd + 1)) return -Errno.EINVAL;
    if (leaves.some(({ mfn, writable }) => writable && tables.has(mfn))) return -Errno.EINVAL;
    domain.pinned = Number(arg1);
    return 0;
  }

  #schedOp({ args, memory }: FakeCall): number {
    const raw = memory.read(args[1] ?? 0n, SchedRemoteShutdown.size);
    if (!raw) return -Errno.EFAULT;
    const { domain_id, reason } = SchedRemoteShutdown.view(bytesOf(raw), 0);
    const domain = this.domains.get(domain_id);
    if (!domain) return -Errno.ESRCH;
    domain.shutdown = reason;
    return 0;
  }
}
