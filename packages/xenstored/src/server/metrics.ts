/** What xenstored tells as metrics: operations, errors, transactions, and what each domain holds of its quotas. */
import type { MetricFamily, MetricSample } from '@xenhost/daemon-kit';
import { xsOpName } from '@xenhost/xs-wire';
import type { Account } from '../core/accounts.ts';
import type { DaemonParts } from '../parts.ts';

type Parts = Pick<DaemonParts, 'core' | 'sockets' | 'journal'>;

export function xenstoredMetrics({ core, sockets, journal }: Parts): MetricFamily[] {
  const { metrics } = core;
  const requests = Array.from(metrics.requests, ([op, value]) => ({
    labels: { operation: op < 0 ? 'unknown' : xsOpName(op).toLowerCase() },
    value,
  }));
  const errors = Array.from(metrics.errors, ([error, value]) => ({ labels: { error }, value }));
  const ends = Object.entries({ committed: metrics.commits, conflicted: metrics.conflicts, merged: metrics.merges });
  const transactions = ends.map(([end, value]) => ({ labels: { end }, value }));
  return [
    family('xenstored_requests', 'counter', 'Requests answered', requests),
    family('xenstored_errors', 'counter', 'Requests answered with an error', errors),
    family('xenstored_watch_events', 'counter', 'Watch events queued', [{ value: core.events.sent }]),
    family('xenstored_transaction_ends', 'counter', 'Transactions that were to be committed', transactions),
    family('xenstored_clients', 'gauge', 'Connections', [
      { labels: { transport: 'socket' }, value: sockets.clients.size },
      { labels: { transport: 'ring' }, value: core.domains.size },
    ]),
    family('xenstored_watches', 'gauge', 'Watches of all clients', [{ value: core.events.index.size }]),
    ...quotaFamilies(core),
    ...(journal ? journalFamilies(journal) : []),
  ];
}

const QUOTAS = [
  ['nodes', 'xenstored_domain_nodes', 'Nodes owned'],
  ['watches', 'xenstored_domain_watches', 'Watches of a guest'],
  ['transactions', 'xenstored_domain_transactions', 'Open transactions of a guest'],
  ['outstanding', 'xenstored_domain_outstanding', 'Requests of a guest whose reply or events wait'],
  ['memory', 'xenstored_domain_memory_bytes', 'Memory accounted to a domain'],
] as const satisfies readonly (readonly [keyof Account, string, string])[];

/** Use by domain, and the limits that bind guests. */
function quotaFamilies({ accounts, quotas }: Parts['core']): MetricFamily[] {
  const domains = [...accounts.entries()];
  const use = QUOTAS.map(([key, name, help]) =>
    family(
      name,
      'gauge',
      help,
      domains.map(([domid, account]) => ({ labels: { domid }, value: account[key] })),
    ),
  );
  const limits = Object.entries(quotas).map(([quota, value]) => ({ labels: { quota }, value: Number(value) }));
  return [...use, family('xenstored_quota', 'gauge', 'Limits of each guest', limits)];
}

function journalFamilies({ stats }: NonNullable<Parts['journal']>): MetricFamily[] {
  return [
    family('xenstored_journal_bytes', 'gauge', 'Size of the journal', [{ value: stats.sizeBytes }]),
    family('xenstored_journal_writes', 'counter', 'Writes to the journal', [{ value: stats.writes }]),
    family('xenstored_journal_failures', 'counter', 'Writes that failed', [{ value: stats.failures }]),
    family('xenstored_journal_compactions', 'counter', 'Compactions', [{ value: stats.compactions }]),
  ];
}

const family = (
  name: string,
  type: MetricFamily['type'],
  help: string,
  samples: readonly MetricSample[],
): MetricFamily => ({ name, type, help, samples });
