/** What blkback tells as metrics: requests, sectors, errors and work under way of each device. */
import type { MetricFamily } from '@xenhost/daemon-kit';
import type { BlockBackend } from './backend.ts';
import type { Vbd } from './device/vbd.ts';
import type { Statistics } from './ring/disk.ts';

const KINDS = { read: 'rd_req', write: 'wr_req', flush: 'f_req', discard: 'ds_req' } as const;
const SECTOR_BYTES = 512;

export function blkbackMetrics({ devices, budget }: Pick<BlockBackend, 'devices' | 'budget'>): MetricFamily[] {
  const each = (name: string, type: MetricFamily['type'], help: string, value: (vbd: Vbd) => number): MetricFamily => ({
    name,
    type,
    help,
    samples: devices.map((vbd) => ({ labels: labelsOf(vbd), value: value(vbd) })),
  });
  const split = (
    name: string,
    help: string,
    by: string,
    columns: Readonly<Record<string, keyof Statistics>>,
    unit: number,
  ) => ({
    ...{ name, type: 'counter' as const, help },
    samples: devices.flatMap((vbd) =>
      Object.entries(columns).map(([column, key]) => ({
        labels: { ...labelsOf(vbd), [by]: column },
        value: vbd.statistics[key] * unit,
      })),
    ),
  });
  return [
    split('blkback_requests', 'Requests taken', 'operation', KINDS, 1),
    split('blkback_bytes', 'Data moved', 'direction', { read: 'rd_sect', write: 'wr_sect' }, SECTOR_BYTES),
    each('blkback_refused_requests', 'counter', 'Requests answered with an error', (vbd) => vbd.refused),
    each('blkback_batches', 'counter', 'Round trips to the hypervisor', (vbd) => vbd.batches),
    each('blkback_waits', 'counter', 'Times that requests waited for memory', (vbd) => vbd.statistics.oo_req),
    each('blkback_work_requests', 'gauge', 'Requests taken and not answered', (vbd) => vbd.inWork),
    each('blkback_work_bytes', 'gauge', 'Data of requests in work', (vbd) => vbd.bytesInWork),
    each('blkback_device_bytes', 'gauge', 'Size of the disk', (vbd) => vbd.sizeBytes),
    each('blkback_connected_devices', 'gauge', '1 while the frontend is served', (vbd) => (vbd.connected ? 1 : 0)),
    {
      ...{ name: 'blkback_memory_bytes', type: 'gauge', help: 'Data of requests in work, of all devices' },
      samples: [{ value: budget.usedBytes }],
    },
  ];
}

const labelsOf = ({ options }: Vbd): Record<string, number> => ({ domid: options.domid, device: options.deviceId });
