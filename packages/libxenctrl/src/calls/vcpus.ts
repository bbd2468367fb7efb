/** vCPUs of domains: information, placement, register contexts. */
import { bytesOf } from '@xenhost/base';
import {
  Domctl, DomctlExtVcpucontext, DomctlGetvcpuinfo, DomctlVcpuaffinity, DomctlVcpucontext, DomctlVcpuextstate, VcpuAffinity, VcpuGuestContext, XenctlBitmap,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { Xenctrl } from '../api.ts';
import { CallArena } from '../caller.ts';
import type { Caller } from '../caller.ts';

/** More than any XSAVE area with Xen's two words before it. */
const MAX_XSAVE_BYTES = 65_536n;
/** pCPUs a map may name; a bigint holds all. */
const CPUMAP_BITS = 64;

export const vcpuCalls = (caller: Caller) => {
  const affinity = async (
    operation: string,
    cmd: number,
    domid: number,
    vcpu: number,
    map: bigint,
  ): Promise<bigint> => {
    const arena = new CallArena();
    const bits = arena.output(CPUMAP_BITS / 8);
    const mapView = new DataView(bits.bytes.buffer);
    mapView.setBigUint64(0, map, true);
    const { bytes } = DomctlVcpuaffinity.create({ vcpu, flags: VcpuAffinity.HARD });
    const hard = XenctlBitmap.view(bytesOf(bytes), DomctlVcpuaffinity.offsets.cpumap_hard);
    hard.bitmap = bits.address;
    hard.nr_bits = CPUMAP_BITS;
    await caller.domctlBytes(`${operation} of domain ${domid}, vCPU ${vcpu}`, cmd, domid, bytes, arena);
    return mapView.getBigUint64(0, true);
  };

  const extended = async (
    cmd: number,
    domid: number,
    vcpu: number,
    init: { xfeature_mask: bigint; size: bigint; buffer: bigint },
    arena: CallArena,
  ) => {
    const operation = `XSAVE state of domain ${domid}, vCPU ${vcpu}`;
    return (await caller.domctl(operation, cmd, domid, DomctlVcpuextstate, { vcpu, ...init }, arena)).view;
  };

  return {
    async vcpuGetextstate(domid, vcpu) {
      const asked = { xfeature_mask: 0n, size: 0n, buffer: 0n };
      const { xfeature_mask, size } = await extended(Domctl.getvcpuextstate, domid, vcpu, asked, new CallArena());
      if (xfeature_mask === 0n || size === 0n || size > MAX_XSAVE_BYTES) return undefined;
      const arena = new CallArena();
      const { address, bytes } = arena.output(Number(size));
      const asks = { xfeature_mask, size, buffer: address };
      const told = await extended(Domctl.getvcpuextstate, domid, vcpu, asks, arena);
      // At first the most that there might be, now what this vCPU has.
      return { featureMask: xfeature_mask, data: bytes.slice(0, Number(told.size)) };
    },
    async vcpuSetextstate(domid, vcpu, { featureMask, data }) {
      const arena = new CallArena();
      const init = { xfeature_mask: featureMask, size: BigInt(data.length), buffer: arena.put(data).address };
      await extended(Domctl.setvcpuextstate, domid, vcpu, init, arena);
    },
    async vcpuGetextcontext(domid, vcpu) {
      const operation = `extended context of domain ${domid}, vCPU ${vcpu}`;
      const { bytes } = await caller.domctl(operation, Domctl.get_ext_vcpucontext, domid, DomctlExtVcpucontext, {
        vcpu,
      });
      return bytes;
    },
    async vcpuSetextcontext(domid, vcpu, context) {
      const { bytes, view } = DomctlExtVcpucontext.create();
      bytes.set(context.subarray(0, bytes.length));
      view.vcpu = vcpu;
      const operation = `extended context of domain ${domid}, vCPU ${vcpu}`;
      await caller.domctlBytes(operation, Domctl.set_ext_vcpucontext, domid, bytes);
    },
    async vcpuGetinfo(domid, vcpu) {
      const operation = `xc_vcpu_getinfo of domain ${domid}, vCPU ${vcpu}`;
      const { view } = await caller.domctl(operation, Domctl.getvcpuinfo, domid, DomctlGetvcpuinfo, { vcpu });
      return {
        online: view.online !== 0,
        blocked: view.blocked !== 0,
        running: view.running !== 0,
        cpuTimeNs: view.cpu_time,
        cpu: view.cpu,
      };
    },
    vcpuSetaffinity: (domid, vcpu, cpumap) =>
      affinity('xc_vcpu_setaffinity', Domctl.setvcpuaffinity, domid, vcpu, cpumap),
    vcpuGetaffinity: (domid, vcpu) => affinity('xc_vcpu_getaffinity', Domctl.getvcpuaffinity, domid, vcpu, 0n),

    async vcpuSetcontext(domid, vcpu, context) {
      const arena = new CallArena();
      const ctxt = arena.put(context).address;
      const operation = `xc_vcpu_setcontext of domain ${domid}, vCPU ${vcpu}`;
      await caller.domctl(operation, Domctl.setvcpucontext, domid, DomctlVcpucontext, { vcpu, ctxt }, arena);
    },
    async vcpuGetcontext(domid, vcpu) {
      const arena = new CallArena();
      const buffer = arena.output(VcpuGuestContext.size);
      const operation = `xc_vcpu_getcontext of domain ${domid}, vCPU ${vcpu}`;
      await caller.domctl(
        operation,
        Domctl.getvcpucontext,
        domid,
        DomctlVcpucontext,
        { vcpu, ctxt: buffer.address },
        arena,
      );
      return buffer.bytes;
    },
  } satisfies Partial<Xenctrl>;
};
