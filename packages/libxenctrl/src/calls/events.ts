/** Event channels and HVM parameters on behalf of another domain (`xc_evtchn.c`, `xc_domain.c`). */
import { evtchnPort } from '@xenhost/base';
import { EvtchnAllocUnbound, EVTCHNOP, EvtchnReset, EvtchnStatus, HvmOp, HvmParam, Hypercall } from '@xenhost/xen-abi';
import type { Xenctrl } from '../api.ts';
import { CallArena } from '../caller.ts';
import type { Caller } from '../caller.ts';

export const eventCalls = (caller: Caller) => {
  const param = async (operation: string, op: number, domid: number, index: number, value: bigint): Promise<bigint> => {
    const arena = new CallArena();
    const { address, view } = arena.struct(HvmParam, { domid, index, value });
    await caller.call(`${operation} ${index} of domain ${domid}`, Hypercall.hvm_op, [BigInt(op), address], arena);
    return view.value;
  };

  return {
    async evtchnAllocUnbound(domid, remote) {
      const arena = new CallArena();
      const { address, view } = arena.struct(EvtchnAllocUnbound, { dom: domid, remote_dom: remote });
      const operation = `xc_evtchn_alloc_unbound of domain ${domid} for ${remote}`;
      await caller.call(operation, Hypercall.event_channel_op, [BigInt(EVTCHNOP.alloc_unbound), address], arena);
      return evtchnPort(view.port);
    },
    async evtchnStatus(domid, port) {
      const arena = new CallArena();
      const { address, view } = arena.struct(EvtchnStatus, { dom: domid, port });
      const operation = `xc_evtchn_status of domain ${domid}, port ${port}`;
      await caller.call(operation, Hypercall.event_channel_op, [BigInt(EVTCHNOP.status), address], arena);
      return view.status;
    },
    async evtchnReset(domid) {
      const arena = new CallArena();
      const { address } = arena.struct(EvtchnReset, { dom: domid });
      await caller.call(
        `xc_evtchn_reset of domain ${domid}`,
        Hypercall.event_channel_op,
        [BigInt(EVTCHNOP.reset), address],
        arena,
      );
    },
    async hvmParamSet(domid, index, value) {
      await param('xc_hvm_param_set', HvmOp.set_param, domid, index, value);
    },
    hvmParamGet: (domid, index) => param('xc_hvm_param_get', HvmOp.get_param, domid, index, 0n),
  } satisfies Partial<Xenctrl>;
};
