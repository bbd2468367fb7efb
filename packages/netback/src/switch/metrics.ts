/** What bridges count, as metrics. Guests' ports are told with their vifs, see ../metrics.ts. */
import type { MetricFamily } from '@xenhost/daemon-kit';
import type { Bridge } from './bridge.ts';

export function bridgeMetrics(bridges: readonly Bridge[]): MetricFamily[] {
  const ports = bridges.flatMap((bridge) => bridge.ports().map((port) => ({ bridge: bridge.name, ...port })));
  const shared = ports.filter(({ kind }) => kind !== 'guest');
  return [
    {
      name: 'netback_bridge_addresses',
      type: 'gauge',
      help: 'MACs that a bridge knows.',
      samples: bridges.map((bridge) => ({ labels: { bridge: bridge.name }, value: bridge.macs().length })),
    },
    {
      name: 'netback_bridge_ports',
      type: 'gauge',
      help: 'Ports of a bridge.',
      samples: bridges.map((bridge) => ({ labels: { bridge: bridge.name }, value: bridge.ports().length })),
    },
    {
      name: 'netback_bridge_port_bytes',
      type: 'counter',
      help: 'Bytes between a bridge and an uplink or link; in is into the bridge.',
      samples: shared.flatMap(({ bridge, name, counters }) => [
        { labels: { bridge, port: name, direction: 'in' }, value: counters.inBytes },
        { labels: { bridge, port: name, direction: 'out' }, value: counters.outBytes },
      ]),
    },
    {
      name: 'netback_bridge_dropped_frames',
      type: 'counter',
      help: 'Frames that a bridge dropped, by port and reason.',
      samples: ports.flatMap(({ bridge, name, counters }) =>
        Object.entries(counters.dropped)
          .filter(([, count]) => count > 0)
          .map(([reason, value]) => ({ labels: { bridge, port: name, reason }, value })),
      ),
    },
  ];
}
