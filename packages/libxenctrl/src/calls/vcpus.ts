/** vCPUs of domains: information, placement, register contexts. */
import { bytesOf } from '@xenhost/base';
import {
  Domctl, DomctlGetvcpuinfo, DomctlVcpuaffinity, DomctlVcpucontext, VcpuAffinity, VcpuGuestContext, XenctlBitmap,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { Xenctrl } from '../api.ts';
import { CallArena } from '../caller.ts';
import type { Caller } from '../caller.ts';

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

  return {
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
