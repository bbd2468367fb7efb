/**
 * Event channel operations over records in machine memory: binding, sending, closing, virtual interrupts. Arguments
 * come checked for readability (`hypercall.ts`); everything else about them is checked here. Delivery is the ABIs'
 * (`two-level.ts`, `fifo.ts`, `dom0.ts`). `xen/common/event_channel.c`.
 */
import { Errno, domid as toDomid, evtchnPort } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import {
  DOMID,
  EVTCHNSTAT,
  EVTCHN_FIFO,
  EVTCHN_PLACES,
  EvtchnFifoControlBlock,
  PAGE_SIZE,
  PER_VCPU_VIRQS,
} from '@xenhost/xen-abi';
import type { HypercallHandler } from '../hypercall/types.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import { MAX_VCPUS_PER_DOMAIN } from '../state/memory-map.ts';
import { VcpuFlag, VcpuLayout } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import type { EventAbi, EventTargets } from './abi.ts';
import type { EventChannels, EventLimits, EventModules } from './api.ts';
import { Dom0Abi } from './dom0.ts';
import { FifoAbi } from './fifo.ts';
import { eventChannelOp } from './hypercall.ts';
import { PortTable } from './ports.ts';
import { DOM0_NR_CHANNELS, NR_VIRQS, PortState, eventDomain, globalVirqIndex, vcpuVirqIndex } from './records.ts';
import type { PortView } from './records.ts';
import { TwoLevelAbi, guestWidth } from './two-level.ts';
import { isUpcallPending, setUpcallMask, setUpcallPending, upcallMask, vcpuInfoAddress } from './vcpu-info.ts';

/** Domain-0 has no PIRQs to give: a number below is refused for want of rights, one above does not exist. */
const NR_PIRQS = 48;
const DOM0 = toDomid(0);

export interface PortStatus {
  readonly status: number;
  readonly vcpu: number;
  readonly detail: number;
  readonly remotePort: number;
}

const isPerVcpu = (virq: number): boolean => PER_VCPU_VIRQS.includes(virq);

export class EventChannelTable implements EventChannels {
  readonly hypercall: HypercallHandler;
  readonly #modules: EventModules;
  readonly #memory: MachineMemory;
  readonly #ports: PortTable;
  readonly #twoLevel: TwoLevelAbi;
  readonly #fifo: FifoAbi;
  readonly #dom0: Dom0Abi;

  constructor(modules: EventModules) {
    this.#modules = modules;
    this.#memory = modules.memory;
    this.#ports = new PortTable(
      modules.memory,
      () => modules.allocateXenFrame(),
      (mfn) => {
        modules.freeXenFrame(mfn);
      },
    );
    const targets: EventTargets = {
      vcpu: (domain, id) => modules.vcpu(domain, id),
      markEventsPending: (vcpu) => {
        if (!setUpcallPending(this.#memory, vcpu)) modules.kick(vcpu);
      },
      wakePollers: (domain, port) => {
        this.#wakePollers(domain, port);
      },
    };
    this.#twoLevel = new TwoLevelAbi(modules.memory, targets);
    this.#fifo = new FifoAbi(modules.memory, modules, targets);
    this.#dom0 = new Dom0Abi(modules.memory, () => {
      modules.ringControlDoorbell();
    });
    this.hypercall = eventChannelOp(this);
  }

  initDomain(domain: DomainRef, limits: EventLimits): number {
    domain.v.eventFifo = 0;
    this.setMaxPort(domain, limits.maxPorts);
    if (domain.domid === DOM0) {
      const bitmap = this.#modules.allocateXenFrame();
      if (bitmap === undefined) return -Errno.ENOMEM;
      eventDomain(this.#memory, domain).dom0Pending = bitmap;
    }
    return this.#ports.init(domain);
  }

  setMaxPort(domain: DomainRef, maxPort: number): void {
    domain.v.eventMaxPort = Math.min(maxPort >>> 0, domain.domid === DOM0 ? DOM0_NR_CHANNELS : 0x7fffffff);
  }

  destroyDomain(domain: DomainRef): void {
    for (let port = 1; port < domain.v.eventPorts; port++) this.close(domain, evtchnPort(port));
    this.#leaveFifo(domain);
    this.#ports.destroy(domain);
    const state = eventDomain(this.#memory, domain);
    if (state.dom0Pending !== 0) this.#modules.freeXenFrame(state.dom0Pending);
    state.dom0Pending = 0;
  }

  resetDomain(domain: DomainRef): number {
    for (let port = 1; port < domain.v.eventPorts; port++) this.close(domain, evtchnPort(port));
    this.#leaveFifo(domain);
    return 0;
  }

  allocUnbound(domain: DomainRef, remote: Domid): number {
    const abi = this.#abi(domain);
    const port = this.#ports.allocate(domain, abi);
    if (port < 0) return port;
    const record = this.#require(domain, port);
    record.state = PortState.unbound;
    record.remoteDomid = remote;
    abi.init(domain, port, record);
    return port;
  }

  bindInterdomain(domain: DomainRef, remote: Domid, remotePort: EvtchnPort): number {
    const peer = this.#modules.domain(remote);
    if (peer === undefined) return -Errno.ESRCH;
    const abi = this.#abi(domain);
    const port = this.#ports.allocate(domain, abi);
    if (port < 0) return port;
    const record = this.#require(domain, port);
    const peerRecord = this.#ports.record(peer, remotePort);
    if (peerRecord?.state !== PortState.unbound || peerRecord.remoteDomid !== domain.domid) {
      this.#ports.free(domain, port, abi);
      return -Errno.EINVAL;
    }
    record.state = PortState.interdomain;
    record.remoteDomid = peer.domid;
    record.remotePort = remotePort;
    abi.init(domain, port, record);
    peerRecord.state = PortState.interdomain;
    peerRecord.remoteDomid = domain.domid;
    peerRecord.remotePort = port;
    // Sends while the peer was unbound were dropped: one event stands for them.
    abi.setPending(domain, port, record, record.notifyVcpu);
    return port;
  }

  bindVirq(domain: DomainRef, virq: number, vcpuId: number): number {
    if (virq >= NR_VIRQS) return -Errno.EINVAL;
    if (!isPerVcpu(virq) && vcpuId !== 0) return -Errno.EINVAL;
    const slot = this.#virqIndex(domain, virq, vcpuId);
    if (slot === undefined) return -Errno.ENOENT;
    if (this.#memory.u32[slot] !== 0) return -Errno.EEXIST;
    const port = this.#bindLocal(domain, PortState.virq, vcpuId);
    if (port < 0) return port;
    this.#require(domain, port).irq = virq;
    this.#memory.u32[slot] = port;
    return port;
  }

  bindIpi(domain: DomainRef, vcpuId: number): number {
    if (this.#modules.vcpu(domain, vcpuId) === undefined) return -Errno.ENOENT;
    return this.#bindLocal(domain, PortState.ipi, vcpuId);
  }

  bindPirq(_domain: DomainRef, pirq: number): number {
    return pirq >= NR_PIRQS ? -Errno.EINVAL : -Errno.EPERM;
  }

  close(domain: DomainRef, port: EvtchnPort): number {
    const record = this.#ports.record(domain, port);
    if (record === undefined) return -Errno.EINVAL;
    switch (record.state) {
      case PortState.free:
      case PortState.reserved:
        return -Errno.EINVAL;
      case PortState.virq: {
        const slot = this.#virqIndex(domain, record.irq, record.notifyVcpu);
        if (slot !== undefined) this.#memory.u32[slot] = 0;
        break;
      }
      case PortState.interdomain: {
        const peer = this.#modules.domain(toDomid(record.remoteDomid));
        const peerRecord = peer && this.#ports.record(peer, record.remotePort);
        if (peerRecord?.state === PortState.interdomain) {
          peerRecord.state = PortState.unbound;
          peerRecord.remoteDomid = domain.domid;
        }
        break;
      }
    }
    this.#ports.free(domain, port, this.#abi(domain));
    return 0;
  }

  send(domain: DomainRef, port: EvtchnPort): number {
    const record = this.#ports.record(domain, port);
    switch (record?.state) {
      case PortState.interdomain: {
        const peer = this.#modules.domain(toDomid(record.remoteDomid));
        const peerRecord = peer && this.#ports.record(peer, record.remotePort);
        if (peer && peerRecord) this.#raise(peer, record.remotePort, peerRecord);
        return 0;
      }
      case PortState.ipi:
        this.#raise(domain, port, record);
        return 0;
      case PortState.unbound:
        return 0;
      default:
        return -Errno.EINVAL;
    }
  }

  /** What EVTCHNOP_status answers, or -errno. */
  status(domain: DomainRef, port: number): PortStatus | number {
    const record = this.#ports.record(domain, port);
    if (record === undefined) return -Errno.EINVAL;
    const vcpu = record.notifyVcpu;
    const answer = (status: number, detail = 0, remotePort = 0): PortStatus => ({ status, vcpu, detail, remotePort });
    switch (record.state) {
      case PortState.unbound:
        return answer(EVTCHNSTAT.unbound, record.remoteDomid);
      case PortState.interdomain:
        return answer(EVTCHNSTAT.interdomain, record.remoteDomid, record.remotePort);
      case PortState.virq:
        return answer(EVTCHNSTAT.virq, record.irq);
      case PortState.ipi:
        return answer(EVTCHNSTAT.ipi);
      default:
        return answer(EVTCHNSTAT.closed);
    }
  }

  bindVcpu(domain: DomainRef, port: number, vcpuId: number): number {
    if (this.#modules.vcpu(domain, vcpuId) === undefined) return -Errno.ENOENT;
    const record = this.#ports.record(domain, port);
    if (record === undefined) return -Errno.EINVAL;
    const movable =
      record.state === PortState.unbound ||
      record.state === PortState.interdomain ||
      (record.state === PortState.virq && !isPerVcpu(record.irq));
    if (!movable) return -Errno.EINVAL;
    record.notifyVcpu = vcpuId;
    return 0;
  }

  unmask(domain: DomainRef, port: number): number {
    const record = this.#ports.record(domain, port);
    if (record === undefined) return -Errno.EINVAL;
    this.#abi(domain).unmask(domain, port, record);
    return 0;
  }

  setPriority(domain: DomainRef, port: number, priority: number): number {
    const record = this.#ports.record(domain, port);
    return record === undefined ? -Errno.EINVAL : this.#abi(domain).setPriority(record, priority);
  }

  /** EVTCHNOP_init_control; the first call that succeeds switches the domain to the FIFO ABI. */
  initControl(domain: DomainRef, vcpuId: number, gfn: bigint, offset: number): number {
    const vcpu = this.#modules.vcpu(domain, vcpuId);
    if (vcpu === undefined) return -Errno.ENOENT;
    if (offset > PAGE_SIZE - EvtchnFifoControlBlock.size || (offset & 7) !== 0) return -Errno.EINVAL;
    if (domain.v.eventFifo !== 0) return this.#fifo.mapControlBlock(domain, vcpu, gfn, offset);
    const created = this.#fifo.createArray(domain);
    if (created !== 0) return created;
    const status = this.#fifo.mapControlBlock(domain, vcpu, gfn, offset);
    if (status !== 0) {
      this.#fifo.destroy(domain, []);
      return status;
    }
    for (let port = 1; port < domain.v.eventPorts; port++) {
      const record = this.#require(domain, port);
      if (this.#twoLevel.isPending(domain, port)) record.pending = 1;
      record.priority = EVTCHN_FIFO.PRIORITY_DEFAULT;
    }
    domain.v.eventFifo = 1;
    return 0;
  }

  /** EVTCHNOP_expand_array; re-raises what became pending while the page was missing. */
  expandArray(domain: DomainRef, gfn: bigint): number {
    if (domain.v.eventFifo === 0) return -Errno.EOPNOTSUPP;
    const { status, firstPort } = this.#fifo.expandArray(domain, gfn);
    if (status !== 0) return status;
    const end = Math.min(domain.v.eventPorts, eventDomain(this.#memory, domain).fifoPorts);
    for (let port = firstPort; port < end; port++) {
      const record = this.#require(domain, port);
      if (record.pending === 0) continue;
      record.pending = 0;
      this.#fifo.setPending(domain, port, record, record.notifyVcpu);
    }
    return 0;
  }

  raiseVirq(vcpu: VcpuRef, virq: number): void {
    const port = this.#memory.u32[vcpuVirqIndex(vcpu, virq)] ?? 0;
    const domain = this.#modules.domain(vcpu.domid);
    const record = port !== 0 && domain && this.#ports.record(domain, port);
    if (!domain || !record) return;
    this.#modules.notified?.();
    this.#abi(domain).setPending(domain, port, record, vcpu.vcpuId);
  }

  raiseGlobalVirq(domain: DomainRef, virq: number): void {
    const port = this.#memory.u32[globalVirqIndex(domain, virq)] ?? 0;
    const record = port !== 0 ? this.#ports.record(domain, port) : undefined;
    if (record) this.#raise(domain, port, record);
  }

  isPending(domain: DomainRef, port: EvtchnPort): boolean {
    return this.isValidPort(domain, port) && this.#abi(domain).isPending(domain, port);
  }

  isValidPort(domain: DomainRef, port: number): boolean {
    return port < domain.v.eventPorts;
  }

  hasDeliverable(vcpu: VcpuRef): boolean {
    return isUpcallPending(this.#memory, vcpu) && upcallMask(this.#memory, vcpu) === 0;
  }

  setUpcallMask(vcpu: VcpuRef, masked: boolean): void {
    setUpcallMask(this.#memory, vcpu, masked ? 1 : 0);
  }

  vcpuInfoMoved(vcpu: VcpuRef): void {
    const domain = this.#modules.domain(vcpu.domid);
    const info = vcpuInfoAddress(vcpu);
    if (domain === undefined || info === undefined) return;
    setUpcallPending(this.#memory, vcpu);
    const width = guestWidth(domain);
    const selector = (info + EVTCHN_PLACES[width].pendingSelector) / 4;
    Atomics.store(this.#memory.i32, selector, -1);
    if (width === 64) Atomics.store(this.#memory.i32, selector + 1, -1);
    this.#modules.kick(vcpu);
  }

  takeDom0Pending(): EvtchnPort[] {
    const dom0 = this.#modules.domain(DOM0);
    return dom0 === undefined ? [] : this.#dom0.take(dom0, dom0.v.eventPorts);
  }

  /** The domain that DOMID_SELF or a number names for `caller`; -ESRCH, or -EPERM for another's without privilege. */
  resolve(caller: DomainRef, domid: number, privileged: boolean): DomainRef | number {
    if (domid === DOMID.SELF || domid === caller.domid) return caller;
    const domain = this.#modules.domain(toDomid(domid));
    if (domain === undefined) return -Errno.ESRCH;
    return privileged ? domain : -Errno.EPERM;
  }

  #abi(domain: DomainRef): EventAbi {
    if (domain.domid === DOM0) return this.#dom0;
    return domain.v.eventFifo !== 0 ? this.#fifo : this.#twoLevel;
  }

  #raise(domain: DomainRef, port: number, record: PortView): void {
    this.#modules.notified?.();
    this.#abi(domain).setPending(domain, port, record, record.notifyVcpu);
  }

  #bindLocal(domain: DomainRef, state: number, vcpuId: number): number {
    const abi = this.#abi(domain);
    const port = this.#ports.allocate(domain, abi);
    if (port < 0) return port;
    const record = this.#require(domain, port);
    record.state = state;
    record.notifyVcpu = vcpuId;
    abi.init(domain, port, record);
    return port;
  }

  /** Where the port of a VIRQ is kept; undefined when there is no such vCPU. */
  #virqIndex(domain: DomainRef, virq: number, vcpuId: number): number | undefined {
    if (!isPerVcpu(virq)) return globalVirqIndex(domain, virq);
    const vcpu = this.#modules.vcpu(domain, vcpuId);
    return vcpu && vcpuVirqIndex(vcpu, virq);
  }

  #wakePollers(domain: DomainRef, port: number): void {
    for (const vcpu of this.#vcpus(domain)) {
      if ((vcpu.v.flags & VcpuFlag.polling) === 0) continue;
      const first = (vcpu.address + VcpuLayout.offsets.pollPorts) / 4;
      const ports = this.#memory.u32.subarray(first, first + vcpu.v.pollCount);
      if (ports.includes(port)) this.#modules.kick(vcpu);
    }
  }

  #leaveFifo(domain: DomainRef): void {
    this.#fifo.destroy(domain, this.#vcpus(domain));
    domain.v.eventFifo = 0;
  }

  *#vcpus(domain: DomainRef): Generator<VcpuRef> {
    for (let id = 0; id < MAX_VCPUS_PER_DOMAIN; id++) {
      const vcpu = this.#modules.vcpu(domain, id);
      if (vcpu) yield vcpu;
    }
  }

  #require(domain: DomainRef, port: number): PortView {
    const record = this.#ports.record(domain, port);
    if (record === undefined) throw new Error(`domain ${domain.domid}: port ${port} was allocated without a record`);
    return record;
  }
}
