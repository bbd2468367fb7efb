import type { Fields, Layout } from '@xenhost/base';
import * as trace from './trace.ts';

// Printed by a C program compiled against Xen's public headers.
const layouts: readonly (readonly [keyof typeof trace, string])[] = [
  ['SysctlTbufOp', 'xen_sysctl_tbuf_op 48 cmd@0 cpu_mask@8 evt_mask@24 buffer_mfn@32 size@40'],
  ['SysctlPerfcDesc', 'xen_sysctl_perfc_desc 84 name@0 nr_vals@80'],
  ['SysctlPerfcOp', 'xen_sysctl_perfc_op 32 cmd@0 nr_counters@4 nr_vals@8 desc@16 val@24'],
  ['TraceBuf', 't_buf 8 cons@0 prod@4'],
];

test.each(layouts)('%s', (name, expected) => {
  const layout = trace[name] as unknown as Layout<Fields>;
  const fields = Object.entries(layout.offsets).map(([key, at]) => `${key}@${at}`);
  expect(`${layout.name} ${layout.size} ${fields.join(' ')}`).toBe(expected);
});

test('every event belongs to its class and subclass', () => {
  const { GEN, SCHED, DOM0OP, PV, PROFILE, ALL } = trace.TraceClass;
  const classes = [GEN, SCHED, DOM0OP, PV, PROFILE];
  for (const event of Object.values(trace.TraceEvent)) {
    expect(event & ALL).not.toBe(0);
    expect(classes.filter((mask) => (event & mask & 0x0fff_0000) !== 0 && (event & 0xf000) !== 0)).toHaveLength(1);
  }
});
