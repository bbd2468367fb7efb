/** Metrics of vifs, beside the switch's own. */
import type { MetricFamily } from '@xenhost/daemon-kit';
import type { VifCounters } from './vif/counters.ts';
import type { VifDevice } from './vif/device.ts';

const COUNTERS: readonly (readonly [keyof VifCounters, string, string])[] = [
  ['rxBytes', 'netback_vif_receive_bytes', 'Bytes that came from the guest.'],
  ['rxPackets', 'netback_vif_receive_packets', 'Packets that came from the guest.'],
  ['rxErrors', 'netback_vif_receive_errors', 'Packets of the guest that were refused.'],
  ['rxDropped', 'netback_vif_receive_dropped_packets', 'Packets of the guest that went nowhere.'],
  ['txBytes', 'netback_vif_transmit_bytes', 'Bytes that went to the guest.'],
  ['txPackets', 'netback_vif_transmit_packets', 'Packets that went to the guest.'],
  ['txErrors', 'netback_vif_transmit_errors', 'Packets that failed on their way into the guest.'],
  ['txDropped', 'netback_vif_transmit_dropped_packets', 'Packets for which the guest had no room.'],
];

export function vifMetrics(vifs: Iterable<VifDevice>, queuedBytes: number): MetricFamily[] {
  const all = [...vifs];
  const labels = (vif: VifDevice): Readonly<Record<string, string | number>> => ({
    vif: vif.id,
    name: vif.name,
    domid: vif.domid,
  });
  return [
    {
      name: 'netback_queued_bytes',
      type: 'gauge',
      help: 'Bytes that wait for receive buffers of guests.',
      samples: [{ value: queuedBytes }],
    },
    {
      name: 'netback_vif_connected',
      type: 'gauge',
      help: 'Whether the frontend of a vif is connected.',
      samples: all.map((vif) => ({ labels: labels(vif), value: vif.connected ? 1 : 0 })),
    },
    ...COUNTERS.map(([key, name, help]): MetricFamily => ({
      name,
      type: 'counter',
      help,
      samples: all.map((vif) => ({ labels: labels(vif), value: vif.counters[key] })),
    })),
  ];
}
