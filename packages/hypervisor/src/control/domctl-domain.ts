/** Domctls about a domain as a whole: creation, life cycle, limits, times, frames. */
import { Errno } from '@xenhost/base';
import {
  DomctlAddressSize,
  DomctlCdf,
  DomctlCreatedomain,
  DomctlGetpageframeinfo3,
  DomctlHypercallInit,
  DomctlMaxMem,
  DomctlMaxVcpus,
  DomctlNodeaffinity,
  DomctlSchedop,
  DomctlSchedulerOp,
  DomctlSetdomainhandle,
  DomctlSetTarget,
  DomctlSettimeoffset,
  DomctlTscInfo,
  PAGE_SHIFT,
  Pfinfo,
  XenDomctl,
  XenScheduler,
} from '@xenhost/xen-abi';
import { NR_DOMIDS } from '../state/memory-map.ts';
import { DomainFlag, DomainLayout } from '../state/records.ts';
import { TSC_KHZ } from '../time/clock.ts';
import { writeWallclock } from '../time/shared-time.ts';
import { bitmapAt } from './request.ts';
import { fillDomainInfo } from './domain-info.ts';
import type { DomctlHandler } from './domctl.ts';

const UUID_BYTES = 16;
/** Frames of one getpageframeinfo3. */
const MAX_FRAME_INFOS = 1024;
/** Highest event channel port of a domain when the toolstack names no limit. */
const NO_LIMIT = 0x7fff_ffff;
const MAX_CAP_PER_PCPU = 100;

/** Grant limits: negative means the host's default. */
const limit = (n: number): number | undefined => (n < 0 ? undefined : n);

export const DOMAIN_COMMANDS = {
  createdomain: ({ m, request }) => {
    const u = request.u(DomctlCreatedomain);
    const op = XenDomctl.view(request.bytes, 0);
    if (u.flags & DomctlCdf.hvm) return -Errno.EOPNOTSUPP;
    if (u.flags & ~(DomctlCdf.xs_domain | DomctlCdf.iommu)) return -Errno.EINVAL;
    const handleAt = request.unionOffset + DomctlCreatedomain.offsets.handle;
    const maxVersion = u.grant_opts & 0xf;
    const wanted = op.domain > 0 && op.domain < NR_DOMIDS ? op.domain : undefined;
    const made = m.lifecycle.create({
      ...(wanted === undefined ? {} : { domid: wanted }),
      handle: request.bytes.u8.slice(handleAt, handleAt + UUID_BYTES),
      ssidref: u.ssidref,
      maxVcpus: u.max_vcpus,
      maxEventPort: u.max_evtchn_port === 0 ? NO_LIMIT : Math.min(u.max_evtchn_port, NO_LIMIT),
      grants: {
        maxFrames: limit(u.max_grant_frames),
        maxMaptrackFrames: limit(u.max_maptrack_frames),
        maxVersion: maxVersion === 0 ? undefined : maxVersion,
      },
      createFlags: u.flags,
      cpupool: u.cpupool_id,
    });
    if (typeof made === 'number') return made;
    op.domain = made.domid;
    return 'copyBack';
  },

  destroydomain: ({ m, domain }) => {
    const result = m.lifecycle.destroy(domain);
    return result === 'wait' ? m.pauses.wait(domain) : result;
  },

  pausedomain: ({ m, call, domain }) => {
    if (domain.domid === call.domid) return -Errno.EINVAL;
    m.lifecycle.pause(domain);
    return 0;
  },

  unpausedomain: ({ m, domain }) => {
    if (domain.v.pauseCount === 0) return -Errno.EINVAL;
    m.lifecycle.unpause(domain);
    return 0;
  },

  resumedomain: ({ m, domain }) => {
    m.lifecycle.resume(domain);
    return 0;
  },

  getdomaininfo: ({ m, request, domain }) => {
    XenDomctl.view(request.bytes, 0).domain = domain.domid;
    fillDomainInfo(m.core, m, domain, request.bytes, request.unionOffset);
    return 'copyBack';
  },

  max_mem: ({ request, domain }) => {
    const pages = request.u(DomctlMaxMem).max_memkb >> BigInt(PAGE_SHIFT - 10);
    domain.v.maxPages = Number(pages > 0xffff_ffffn ? 0xffff_ffffn : pages);
    return 0;
  },

  max_vcpus: ({ m, request, domain }) => {
    if (domain.domid === 0) return -Errno.EINVAL;
    return m.lifecycle.createVcpus(domain, request.u(DomctlMaxVcpus).max);
  },

  setdomainhandle: ({ m, request, domain }) => {
    const from = request.unionOffset + DomctlSetdomainhandle.offsets.handle;
    const to = domain.address + DomainLayout.offsets.uuid;
    m.core.memory.u8.set(request.bytes.u8.subarray(from, from + UUID_BYTES), to);
    return 0;
  },

  setdebugging: () => 0,

  /** Fills the hypercall page of a PV domain at a frame of its own. */
  hypercall_init: ({ m, request, domain }) => {
    const gfn = request.u(DomctlHypercallInit).gmfn;
    if (gfn >= BigInt(m.core.map.nrFrames)) return -Errno.EACCES;
    const mfn = m.memory.foreignFrame(domain, Number(gfn), true);
    if (mfn < 0) return -Errno.EACCES;
    m.pv.fillHypercallPage(m.core.memory.frame(mfn));
    m.memory.frameWritten(mfn);
    return 0;
  },

  settimeoffset: ({ m, request, domain }) => {
    domain.v.timeOffsetSeconds = request.u(DomctlSettimeoffset).time_offset_seconds;
    writeWallclock(m.core, domain);
    return 0;
  },

  gettscinfo: ({ m, request, domain }) => {
    const u = request.u(DomctlTscInfo);
    u.tsc_mode = domain.v.tscMode;
    u.gtsc_khz = TSC_KHZ;
    u.incarnation = domain.v.tscIncarnation;
    u.elapsed_nsec = m.core.systemTimeNs();
    return 'copyBack';
  },

  /** The TSC of this host is always native and never emulated: mode and incarnation are kept to be told again. */
  settscinfo: ({ request, domain }) => {
    const u = request.u(DomctlTscInfo);
    domain.v.tscMode = u.tsc_mode;
    domain.v.tscIncarnation = u.incarnation;
    return 0;
  },

  set_address_size: ({ request }) => (request.u(DomctlAddressSize).size === 64 ? 0 : -Errno.EINVAL),

  get_address_size: ({ request }) => {
    request.u(DomctlAddressSize).size = 64;
    return 'copyBack';
  },

  set_target: ({ m, request, domain }) => {
    const { target } = request.u(DomctlSetTarget);
    if (!m.lifecycle.lookup(target)) return -Errno.ESRCH;
    if (domain.v.targetDomid !== 0) return -Errno.EINVAL;
    domain.v.targetDomid = target;
    return 0;
  },

  setnodeaffinity: ({ request }) => {
    const nodes = request.readBitmap(bitmapAt(request, DomctlNodeaffinity.offsets.nodemap));
    if (nodes === undefined) return -Errno.EFAULT;
    return nodes & 1n ? 0 : -Errno.EINVAL;
  },

  getnodeaffinity: ({ request }) => {
    const map = bitmapAt(request, DomctlNodeaffinity.offsets.nodemap);
    return request.writeBitmap(map, 1n, 1) ? 0 : -Errno.EFAULT;
  },

  scheduler_op: ({ m, request, domain }) => {
    const u = request.u(DomctlSchedulerOp);
    if (u.sched_id !== XenScheduler.CREDIT) return -Errno.EINVAL;
    if (u.cmd === DomctlSchedop.getinfo) {
      u.weight = domain.v.weight;
      u.cap = domain.v.cap;
      return 'copyBack';
    }
    if (u.cmd !== DomctlSchedop.putinfo) return -Errno.EINVAL;
    // As in Xen: 0 leaves the weight, all ones the cap; a cap is bounded by what the domain's vCPUs can use.
    if (u.weight !== 0) domain.v.weight = u.weight;
    if (u.cap !== 0xffff) domain.v.cap = Math.min(u.cap, MAX_CAP_PER_PCPU * m.core.map.nrPcpus);
    return 'copyBack';
  },

  getpageframeinfo3: ({ m, request, domain }) => {
    const u = request.u(DomctlGetpageframeinfo3);
    if (u.num > BigInt(MAX_FRAME_INFOS)) return -Errno.E2BIG;
    if (domain.v.flags & DomainFlag.dying) return -Errno.EINVAL;
    const length = Number(u.num) * 8;
    const bytes = request.memory.read(u.array, length);
    if (!bytes) return -Errno.EFAULT;
    const frames = new DataView(bytes.buffer, bytes.byteOffset);
    for (let i = 0; i < length; i += 8) {
      const gfn = frames.getBigUint64(i, true);
      const info = gfn < BigInt(m.core.map.nrFrames) ? m.memory.frameInfo(domain, Number(gfn)) : Pfinfo.XTAB;
      frames.setBigUint64(i, BigInt(info >>> 0), true);
    }
    return request.memory.write(u.array, bytes) ? 0 : -Errno.EFAULT;
  },
} satisfies Record<string, DomctlHandler>;
