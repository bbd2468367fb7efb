import { childValue, type Sxp } from '@xenhost/sxp';
import { config, xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault, names, tree } = host;

describe('look-ups and lists', () => {
  it('finds by name, id and UUID, and faults with what was asked', async () => {
    const made = (await call('xend.domain.create', config('g'))) as Sxp;
    const uuid = String(childValue(made, 'uuid'));
    for (const ref of ['g', 1, '1', uuid])
      expect(childValue((await call('xend.domain', ref)) as Sxp, 'name')).toBe('g');
    expect(await fault('xend.domain', 'nobody')).toEqual([3, 'nobody']);
    expect(await fault('xend.domain.pause', 99)).toEqual([3, '99']);
  });

  it('sorts and filters by state', async () => {
    for (const name of ['b', 'a']) await call('xend.domain.create', config(name));
    await call('xend.domain.unpause', 'b');
    expect(await names()).toEqual(['Domain-0', 'a', 'b']);
    expect(await call('xend.domains', 0)).toEqual(['Domain-0', 'b']);
    expect(await call('xend.domains_with_state', false, 'PAUSED', false)).toEqual(['a']);
    expect(await call('xend.domains_with_state', false, 1, false)).toEqual(['a']);
    expect(await call('xend.domains_with_state', false, 'crashed', false)).toEqual([]);
    const [dom0] = (await call('xend.domains', true)) as Sxp[];
    expect(childValue(dom0, 'maxmem')).toBe(16777215);
    expect(childValue(dom0, 'state')).toBe('r-----');
    expect(childValue(dom0, 'status')).toBe(2);
  });

  it.each(['domainMaxVcpus', 'schedCreditDomainSet', 'evtchnAllocUnbound'])(
    'takes away what a xend that died at %s left',
    async (step) => {
      const before = await tree('/');
      // Dies at this step: it never gets an answer.
      const port = host.xc as unknown as Record<string, unknown>;
      const real = port[step];
      const reached = new Promise<void>((resolve) => {
        port[step] = () => {
          resolve();
          return new Promise(() => undefined);
        };
      });
      void call('xend.domain.create', config('g', ['device', ['vif']])).catch(() => undefined);
      await reached;
      port[step] = real;
      await host.restart();
      expect(await names()).toEqual(['Domain-0']);
      expect([...host.xc.domains.keys()]).toEqual([0]);
      expect(await tree('/')).toEqual(before);
    },
  );

  it('sweeps what belongs to no domain', async () => {
    const before = await tree('/');
    for (const path of ['/local/domain/77/name', '/local/domain/0/backend/vif/77/0/state', '/vm/u-u-i-d/uuid']) {
      await host.store.write(path, 'x');
    }
    await host.restart();
    expect((await tree('/')).filter((line) => line.includes('/77/') || line.includes('u-u'))).toEqual([]);
    expect(before.every((line) => line !== '')).toBe(true);
  });

  it('finds running domains again after a restart, and domains of others', async () => {
    const uuid = String(childValue((await call('xend.domain.create', config('g', ['on_poweroff', 'preserve'], ['cpu_weight', 99], ['device', ['vif', ['mac', '00:16:3e:00:00:01']]]))) as Sxp, 'uuid')); // prettier-ignore
    const before = await call('xend.domain', 'g', true);
    await host.xc.domainCreate({ uuid: '99999999-0000-4000-8000-000000000000', maxVcpus: 1 });
    await host.restart();
    expect(await names()).toEqual(['Domain-0', 'Domain-99999999-0000-4000-8000-000000000000', 'g']);
    const after = (await call('xend.domain', 'g', true)) as Sxp;
    for (const key of [
      'uuid',
      'on_poweroff',
      'cpu_weight',
      'memory',
      'store_mfn',
      'console_mfn',
      'start_time',
      'vcpus',
    ]) {
      expect([key, childValue(after, key)]).toEqual([key, childValue(before as Sxp, key)]);
    }
    expect(childValue(after, 'uuid')).toBe(uuid);
    expect(childValue(childValue(after, 'device'), 'mac')).toBe('00:16:3e:00:00:01');
    expect(childValue(childValue(after, 'image'), 'args')).toBe('root=/dev/xvda1 quiet');
  });
});
