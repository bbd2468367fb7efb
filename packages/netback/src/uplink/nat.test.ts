import fc from 'fast-check';
import { MAX_NAT_ENTRIES, MAX_NAT_ENTRIES_PER_GUEST, NAT_CLOSING_MS, NAT_IDLE_MS, NAT_SWEEP_MS } from './limits.ts';
import { Nat, type NatProtocol } from './nat.ts';

test('no two guests share a port, a guest keeps its own, and answers find the guest', () => {
  const protocols: readonly NatProtocol[] = ['tcp', 'udp', 'icmp'];
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(fc.constantFrom(...protocols), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 65_535 })),
      ),
      (flows) => {
        const nat = new Nat();
        const given = new Map<string, number>();
        for (const [protocol, ip, port] of [...flows, ...flows]) {
          const entry = nat.outbound(protocol, ip, port, 0);
          const flow = `${protocol} ${ip} ${port}`;
          expect(entry?.port).toBe(given.get(flow) ?? entry?.port);
          given.set(flow, entry?.port ?? 0);
          expect(nat.inbound(protocol, entry?.port ?? 0, 0)).toMatchObject({ guestIp: ip, guestPort: port });
        }
        const outer = [...given].map(([flow, port]) => `${flow.split(' ')[0] ?? ''} ${port}`);
        expect(new Set(outer).size).toBe(outer.length);
        expect(nat.size).toBe(given.size);
      },
    ),
  );
});

test('a TCP port of a guest is kept where it is free; UDP ports lie above those of this machine', () => {
  const nat = new Nat(() => 0);
  expect(nat.outbound('tcp', 1, 40_000, 0)?.port).toBe(40_000);
  expect(nat.outbound('tcp', 2, 40_000, 0)?.port).toBe(1024);
  expect(nat.outbound('udp', 1, 40_000, 0)?.port).toBe(61_000);
});

test('idle translations go, by protocol, and sooner when they are closing', () => {
  const nat = new Nat();
  nat.outbound('udp', 1, 1, 0);
  nat.outbound('tcp', 1, 2, 0);
  const closing = nat.outbound('tcp', 1, 3, 0);
  if (closing) closing.closing = true;
  const later = (ms: number): number => {
    nat.outbound('icmp', 2, 1, ms);
    return nat.size - 1;
  };
  expect(later(NAT_CLOSING_MS + 1)).toBe(2);
  expect(later(NAT_IDLE_MS.udp + NAT_SWEEP_MS)).toBe(1);
  expect(later(NAT_IDLE_MS.tcp + NAT_SWEEP_MS)).toBe(0);
});

test('a guest that opens flows without end loses its own, not those of others', () => {
  const nat = new Nat();
  const other = nat.outbound('tcp', 2, 22, 0);
  for (let port = 1; port < 65_536; port += 1) nat.outbound('tcp', 1, port, 0);
  expect(nat.size).toBe(MAX_NAT_ENTRIES_PER_GUEST + 1);
  for (let guest = 3; guest < 8; guest += 1) {
    for (let port = 1; port <= MAX_NAT_ENTRIES_PER_GUEST; port += 1) nat.outbound('udp', guest, port, 0);
  }
  expect(nat.size).toBeLessThanOrEqual(MAX_NAT_ENTRIES);
  expect(nat.inbound('tcp', other?.port ?? 0, 0)).toBe(other);
});

test('a forward has its port for itself and follows its guest', () => {
  const nat = new Nat(() => 0);
  nat.reserve('tcp', 1);
  expect(nat.outbound('tcp', 9, 1, 0)?.port).not.toBe(1);
  nat.outbound('tcp', 5, 22, 0);
  const first = nat.bind('tcp', 5, 22, 1, 0);
  expect(nat.bind('tcp', 5, 22, 1, 0)).toBe(first);
  expect(nat.outbound('tcp', 5, 22, 0)).toBe(first);
  expect(nat.bind('tcp', 6, 22, 1, 0).guestIp).toBe(6);
  expect(nat.inbound('tcp', 1, 0)?.guestIp).toBe(6);
  expect(nat.outbound('tcp', 5, 22, 0)?.port).not.toBe(1);
});
