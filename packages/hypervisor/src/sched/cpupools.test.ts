import { Errno } from '@xenhost/base';
import fc from 'fast-check';
import { DomainFlag, PcpuRequest, SchedVcpuFlag, VcpuFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import { MS, TestHost } from '../test-host.test-kit.ts';
import { CpuPools } from './cpupools.ts';
import { hasCpu } from './pool-table.ts';
import { pcpuViews } from './runqueue.ts';
import { Spinning } from './spinning.test-kit.ts';

const NS = 1e9;

function poolsOf(host: TestHost): CpuPools {
  const { core, table, scheduler, requests } = host;
  return new CpuPools(core, { pcpus: pcpuViews(core), table, scheduler, requests });
}

/** pCPUs with spinning domains of one vCPU each, Domain-0 left out. */
function world(nrPcpus: number, nrDomains: number) {
  const spinning = new Spinning(
    nrPcpus,
    Array.from({ length: nrDomains }, () => ({})),
  );
  const pools = poolsOf(spinning.host);
  const domain = (domid: number): DomainRef => {
    const found = spinning.host.table.lookup(domid);
    if (!found) throw new Error(`no domain ${domid}`);
    return found;
  };
  /** Moves pCPU `cpu` out of Pool-0 and into a pool. */
  const give = (poolId: number, cpu: number): void => {
    const left = pools.removeCpu(0, cpu);
    if (typeof left === 'number' && left !== 0) throw new Error(`pCPU ${cpu}: ${left}`);
    spinning.run(1);
    expect(pools.runsOnLeaving()).toBeUndefined();
    expect(pools.addCpu(poolId, cpu)).toBe(0);
  };
  const move = (domid: number, poolId: number): void => {
    const pool = pools.find(poolId);
    if (!pool) throw new Error(`no pool ${poolId}`);
    spinning.paused(domain(domid), () => {
      pools.moveDomain(domain(domid), pool);
    });
  };
  return { spinning, host: spinning.host, pools, domain, give, move };
}

describe('pools', () => {
  test('have the next free id or the one that is asked for, and there are two for each pCPU', () => {
    const pools = poolsOf(new TestHost({ nrPcpus: 3 }));
    expect([pools.create(undefined), pools.create(7), pools.create(7), pools.create(0)]).toEqual([1, 7, -Errno.EEXIST, -Errno.EEXIST]);
    expect([pools.create(undefined), pools.create(0xffff_fffe), pools.create(undefined)]).toEqual([8, 0xffff_fffe, 2]);
    expect(pools.create(undefined)).toBe(-Errno.ENOSPC);
    expect([2, 3, 8, 9].map((id) => pools.atOrAfter(id)?.poolId)).toEqual([2, 7, 8, 0xffff_fffe]);
    expect([pools.destroy(7), pools.destroy(7), pools.create(undefined)]).toEqual([0, -Errno.ENOENT, 3]);
  }); // prettier-ignore

  test('get and lose pCPUs as in Xen', () => {
    const { pools, host } = world(3, 0);
    pools.create(1);
    expect([pools.addCpu(1, 1), pools.addCpu(1, 3), pools.addCpu(9, 1), pools.addCpu(1, undefined)]).toEqual([
      -Errno.ENODEV, -Errno.EINVAL, -Errno.ENOENT, -Errno.ENODEV,
    ]); // prettier-ignore
    expect([pools.removeCpu(0, 0), pools.removeCpu(0, 3), pools.removeCpu(1, undefined)]).toEqual([
      -Errno.EINVAL, -Errno.EINVAL, -Errno.EINVAL,
    ]); // prettier-ignore
    expect(pools.removeCpu(1, 1)).toBe(-Errno.EADDRNOTAVAIL);
    expect([pools.removeCpu(0, undefined), pools.free()]).toEqual([0, 0b100n]);
    expect([pools.removeCpu(0, 1), pools.free()]).toEqual([0, 0b110n]);
    expect([pools.addCpu(1, undefined), pools.free(), pools.find(1)?.cpus]).toEqual([0, 0b100n, 0b010n]);
    expect(pools.destroy(1)).toBe(-Errno.EBUSY);
    expect([pools.removeCpu(1, 1), pools.destroy(1)]).toEqual([0, 0]);
    expect(host.core.header.movingPcpu).toBe(0);
  });

  test('keep the last pCPU while a domain lives in it; the dead go to Pool-0', () => {
    const { pools, host, give, move, domain } = world(2, 1);
    expect(pools.create(undefined)).toBe(1);
    give(1, 1);
    move(1, 1);
    expect(pools.removeCpu(1, 1)).toBe(-Errno.EBUSY);
    domain(1).v.flags |= DomainFlag.dying;
    const left = pools.removeCpu(1, 1);
    expect(typeof left === 'number' || left.domid).toBeTruthy();
    expect(host.scheduler.pools.ofDomain(domain(1)).poolId).toBe(0);
    expect(pools.destroy(1)).toBe(0);
  });

  test('take new domains only when they are there and have a pCPU', () => {
    const { pools, host, give } = world(2, 0);
    const create = (cpupool: number) =>
      host.lifecycle.create({ handle: new Uint8Array(16), maxVcpus: 1, maxEventPort: 1023, grants: {}, cpupool });
    expect(create(1)).toBe(-Errno.ESRCH);
    pools.create(1);
    expect(create(1)).toBe(-Errno.ENODEV);
    give(1, 1);
    const made = host.domain({ cpupool: 1, maxVcpus: 3 });
    expect([0, 1, 2].map((id) => host.vcpu(made, id).v.processor)).toEqual([1, 1, 1]);
    expect(pools.find(1)?.nrDomains).toBe(1);
    while (host.lifecycle.destroy(made) === 'continue');
    expect(pools.find(1)?.nrDomains).toBe(0);
  });

  test('a pCPU that runs somebody leaves when it has looked again', () => {
    const { pools, host, spinning } = world(2, 4);
    spinning.run(10);
    const left = pools.removeCpu(0, 1);
    expect(left).toMatchObject({ domid: spinning.on(1)?.domid });
    expect(host.requests.peek(1) & PcpuRequest.reschedule).not.toBe(0);
    expect([pools.free(), pools.addCpu(0, 1), pools.removeCpu(0, 1)]).toEqual([
      0n, -Errno.EADDRNOTAVAIL, -Errno.EADDRNOTAVAIL,
    ]); // prettier-ignore
    spinning.run(1);
    expect([pools.runsOnLeaving(), spinning.on(1), pools.free()]).toEqual([undefined, undefined, 2n]);
  });
});

describe('spinning domains', () => {
  test('have time of the pCPUs of their pool only, and share those', () => {
    const { spinning, pools, give, move } = world(4, 5);
    spinning.run(100);
    pools.create(1);
    give(1, 2);
    give(1, 3);
    for (const domid of [3, 4, 5]) move(domid, 1);
    spinning.ranOn.clear();
    spinning.run(60_000);
    const on = (domid: number): number[] =>
      [0, 1, 2, 3].map((pcpu) => Math.round((spinning.ranOn.get(`${domid} on ${pcpu}`) ?? 0) / NS));
    for (const domid of [1, 2]) {
      expect(on(domid).slice(2)).toEqual([0, 0]);
      expect(Math.abs((on(domid)[0] ?? 0) + (on(domid)[1] ?? 0) - 6)).toBeLessThanOrEqual(1);
    }
    for (const domid of [3, 4, 5]) {
      expect(on(domid).slice(0, 2)).toEqual([0, 0]);
      expect(Math.abs((on(domid)[2] ?? 0) + (on(domid)[3] ?? 0) - 4)).toBeLessThanOrEqual(1);
    }
  });

  test('lose pinning and cap when they move, pinning when the pCPU goes', () => {
    const { spinning, pools, host, domain, give, move } = world(3, 2);
    pools.create(1);
    const pinned = host.vcpu(domain(1));
    pinned.v.affinity = 0b100n;
    host.scheduler.affinityChanged(pinned);
    spinning.run(5);
    expect(spinning.on(2)?.domid).toBe(1);
    give(1, 2);
    expect([pinned.v.affinity, pinned.v.allowed]).toEqual([host.scheduler.anyCpu, 0b011n]);
    domain(2).v.cap = 20;
    domain(2).v.weight = 512;
    move(2, 1);
    expect([domain(2).v.cap, domain(2).v.weight, host.vcpu(domain(2)).v.allowed]).toEqual([0, 256, 0b100n]);
  });

  test('each pool has a time slice and a rate limit of its own', () => {
    const { spinning, pools, host, give, move } = world(2, 4);
    pools.create(1);
    give(1, 1);
    for (const domid of [3, 4]) move(domid, 1);
    const other = pools.find(1);
    if (other) other.timesliceUs = 2000;
    spinning.run(100);
    const slice = (pcpu: number) => (pcpuViews(host.core)[pcpu]?.sliceEndNs ?? 0n) - host.core.systemTimeNs();
    const before = [1, 2, 3, 4].map((domid) => host.vcpu(host.table.lookup(domid) as DomainRef).v.schedules);
    spinning.run(3000);
    const after = [1, 2, 3, 4].map((domid) => host.vcpu(host.table.lookup(domid) as DomainRef).v.schedules);
    const switches = after.map((n, i) => n - (before[i] ?? 0));
    expect(switches[2]).toBeGreaterThan(5 * (switches[0] ?? Infinity));
    expect(slice(1) <= 2n * MS).toBe(true);
  });
});

/** Something that tools or guests do; numbers are taken modulo what there is. */
const step = fc.record({
  kind: fc.constantFrom('create', 'destroy', 'add', 'remove', 'move', 'pin', 'block', 'wake', 'cap', 'run', 'kill', 'born'),
  a: fc.nat(99),
  b: fc.nat(99),
}); // prettier-ignore

test.each([1, 2, 5])('whatever is done on %d pCPUs, nobody runs where its pool is not', (nrPcpus) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { spinning, host, pools, move } = world(nrPcpus, 4);
      const domids = (): number[] => {
        const found: number[] = [];
        host.table.forEach((d) => {
          if (!(d.v.flags & DomainFlag.dying)) found.push(d.domid);
          return true;
        });
        return found;
      };
      for (const { kind, a, b } of steps) {
        const ids = domids();
        const domain = host.table.lookup(ids[a % ids.length] ?? 0);
        const vcpu = domain && host.vcpu(domain);
        if (kind === 'create') pools.create(undefined);
        else if (kind === 'destroy') pools.destroy(a % 5);
        else if (kind === 'add') pools.addCpu(a % 5, b % nrPcpus);
        else if (kind === 'remove') pools.removeCpu(a % 3, b % nrPcpus);
        else if (kind === 'born' && pools.find(a % 3)?.cpus) host.domain({ cpupool: a % 3, maxVcpus: 1 + (b % 3) });
        else if (kind === 'run') spinning.run(1 + (a % 400));
        else if (!domain || !vcpu) continue;
        else if (kind === 'move' && pools.find(b % 3)?.cpus) move(domain.domid, b % 3);
        else if (kind === 'pin') {
          const wanted = BigInt(b % (1 << nrPcpus));
          if ((wanted & host.scheduler.pools.ofDomain(domain).cpus) === 0n) continue;
          vcpu.v.affinity = wanted;
          host.scheduler.affinityChanged(vcpu);
        } else if (kind === 'block') {
          vcpu.v.flags |= VcpuFlag.blocked;
          host.scheduler.sleep(vcpu);
        } else if (kind === 'wake') host.scheduler.kick(vcpu);
        else if (kind === 'cap') domain.v.cap = b;
        else if (kind === 'kill') while (host.lifecycle.destroy(domain) !== 0) spinning.run(1);
        spinning.run(2);
        check(spinning, pools);
      }
    }),
    { numRuns: 40 },
  );
});

function check(spinning: Spinning, pools: CpuPools): void {
  const { host } = spinning;
  const { scheduler, table, core } = host;
  const problems: string[] = [];
  const expectThat = (truth: boolean, text: string): void => {
    if (!truth) problems.push(text);
  };
  pcpuViews(core).forEach((pcpu, n) => {
    const pool = scheduler.pools.ofPcpu(pcpu);
    expectThat(!pool || (pool.used === 1 && hasCpu(pool.cpus, n)), `pCPU ${n} is in its pool's set`);
    expectThat(hasCpu(pools.free(), n) === !pool, `pCPU ${n} is free or in a pool`);
    const running = spinning.on(n);
    if (running) expectThat(hasCpu(running.v.allowed, n) && !!pool, `d${running.domid} may run on ${n}`);
    for (let at = scheduler.queues.head(n); at; at = scheduler.queues.next(at)) {
      expectThat(hasCpu(at.v.allowed, n) && at.v.processor === n, `d${at.domid} may wait on ${n}`);
      expectThat(!!running, `pCPU ${n} is not idle while d${at.domid} waits`);
    }
  });
  for (const pool of scheduler.pools.all()) {
    let [domains, parked] = [0, 0];
    table.forEach((domain) => {
      if (scheduler.pools.ofDomain(domain) !== pool) return true;
      domains++;
      table.forEachVcpu(domain, (vcpu) => {
        if (vcpu.v.schedFlags & SchedVcpuFlag.parked) parked++;
        expectThat(vcpu.v.allowed === (vcpu.v.affinity & pool.cpus), `d${domain.domid} may run in pool ${pool.poolId}`);
        expectThat(hasCpu(vcpu.v.allowed, vcpu.v.processor), `d${domain.domid} is on a pCPU of pool ${pool.poolId}`);
      });
      return true;
    });
    expectThat(pool.nrDomains === domains, `pool ${pool.poolId} counts ${pool.nrDomains} of ${domains} domains`);
    expectThat(pool.nrParked === parked, `pool ${pool.poolId} counts ${pool.nrParked} of ${parked} parked`);
  }
  expect(problems).toEqual([]);
}
