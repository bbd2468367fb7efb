/** xend.domain.*: schedulers, shadow page tables and I/O ports (facts, section 3). The hypervisor's refusals are the answer. */
import * as cpu from '../domain/cpu-operations.ts';
import { DOM, INVALID_DOMAIN, XEND_ERROR, method, vmOf, type Method } from './method.ts';

const DOM_FAULTS = [INVALID_DOMAIN, XEND_ERROR];
const int = (name: string) => ({ name, type: 'int' }) as const;

export const domainCpuMethods: readonly Method[] = [
  method({
    name: 'xend.domain.sched_credit_get',
    doc: 'Weight and cap of the credit scheduler.',
    params: [DOM],
    returns: 'struct',
    faults: DOM_FAULTS,
    run: async ({ manager }, dom) => cpu.getCredit(manager, await manager.lookup(dom)),
  }),
  method({
    name: 'xend.domain.sched_credit_set',
    doc: 'Sets weight and cap of the credit scheduler; nil leaves one as it is.',
    params: [
      DOM,
      { name: 'weight', type: 'optionalInt', default: undefined },
      { name: 'cap', type: 'optionalInt', default: undefined },
    ],
    returns: 'int',
    faults: DOM_FAULTS,
    async run(context, dom, weight, cap) {
      await cpu.setCredit(context.manager, await vmOf(context, dom), weight, cap);
      return 0;
    },
  }),
  method({
    name: 'xend.domain.sched_credit2_get',
    doc: 'Weight of the credit2 scheduler.',
    params: [DOM],
    returns: 'struct',
    faults: DOM_FAULTS,
    run: async ({ manager }, dom) => cpu.getCredit2(manager, await manager.lookup(dom)),
  }),
  method({
    name: 'xend.domain.sched_credit2_set',
    doc: 'Sets the weight of the credit2 scheduler; nil leaves it as it is.',
    params: [DOM, { name: 'weight', type: 'optionalInt', default: undefined }],
    returns: 'int',
    faults: DOM_FAULTS,
    async run(context, dom, weight) {
      await cpu.setCredit2(context.manager, await vmOf(context, dom), weight);
      return 0;
    },
  }),
  method({
    name: 'xend.domain.cpu_sedf_get',
    doc: 'Parameters of the sedf scheduler, times in nanoseconds.',
    params: [DOM],
    returns: 'array',
    faults: DOM_FAULTS,
    run: async ({ manager }, dom) => cpu.getSedf(manager, await manager.lookup(dom)),
  }),
  method({
    name: 'xend.domain.cpu_sedf_set',
    doc: 'Sets parameters of the sedf scheduler, times in nanoseconds.',
    params: [DOM, int('period'), int('slice'), int('latency'), int('extratime'), int('weight')],
    returns: 'int',
    faults: DOM_FAULTS,
    async run(context, dom, period, slice, latency, extratime, weight) {
      const vm = await vmOf(context, dom);
      await cpu.setSedf(context.manager, vm, { period, slice, latency, extratime, weight });
      return 0;
    },
  }),
  method({
    name: 'xend.domain.shadow_control',
    doc: 'An operation on shadow page tables (XEN_DOMCTL_SHADOW_OP_*).',
    params: [DOM, int('op')],
    returns: 'int',
    faults: DOM_FAULTS,
    async run(context, dom, op) {
      await cpu.shadowControl(context.manager, await vmOf(context, dom), op);
      return 0;
    },
  }),
  method({
    name: 'xend.domain.shadow_mem_get',
    doc: 'Memory of shadow page tables, MiB.',
    params: [DOM],
    returns: 'int',
    faults: DOM_FAULTS,
    run: async (context, dom) => cpu.shadowMemory(context.manager, await vmOf(context, dom), undefined),
  }),
  method({
    name: 'xend.domain.shadow_mem_set',
    doc: 'Sets the memory of shadow page tables, MiB; answers what there is then.',
    params: [DOM, int('mb')],
    returns: 'int',
    faults: DOM_FAULTS,
    run: async (context, dom, mib) => cpu.shadowMemory(context.manager, await vmOf(context, dom), mib),
  }),
  ...([true, false] as const).map((allow) =>
    method({
      name: `xend.domain.ioport_range_${allow ? 'enable' : 'disable'}`,
      doc: `${allow ? 'Allows' : 'Forbids'} a domain a range of I/O ports.`,
      params: [DOM, int('first'), int('last')],
      returns: 'int',
      faults: DOM_FAULTS,
      async run(context, dom, first, last) {
        await cpu.ioportRange(context.manager, await vmOf(context, dom), first, last, allow);
        return 0;
      },
    }),
  ),
];
