import { childValue, type Sxp } from '@xenhost/sxp';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { config, xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, names, end } = host;

describe('ends of domains', () => {
  const make = async (...more: XmlRpcValue[]): Promise<void> => {
    await call('xend.domain.create', config('g', ...more));
    await call('xend.domain.unpause', 'g');
  };

  it('poweroff destroys by default', async () => {
    await make();
    await end(1, 0);
    expect(await names()).toEqual(['Domain-0']);
    expect(await host.store.tryDirectory('/local/domain')).toEqual(['0']);
  });

  it('reboot restarts, counts, keeps the UUID and runs', async () => {
    await make();
    const uuid = childValue((await call('xend.domain', 'g')) as Sxp, 'uuid');
    expect(await call('xend.domain.getRestartCount', 'g')).toBe('0');
    host.clock.advance(61_000_000_000n);
    await end(1, 1);
    const again = (await call('xend.domain', 'g')) as Sxp;
    expect([childValue(again, 'domid'), childValue(again, 'uuid')]).toEqual([2, uuid]);
    expect(host.xc.domains.get(2)?.pauses).toBe(0);
    expect(await call('xend.domain.getRestartCount', 'g')).toBe('1');
    expect(await host.store.tryRead(`/vm/${String(uuid)}/xend/restart_in_progress`)).toBeUndefined();
    expect(await host.store.tryRead(`/vm/${String(uuid)}/xend/last_shutdown_reason`)).toBe('reboot');
  });

  it('does not restart what lived less than a minute', async () => {
    await make();
    host.clock.advance(59_000_000_000n);
    await end(1, 1);
    expect(await names()).toEqual(['Domain-0']);
  });

  it('crash follows on_crash; preserve keeps the body once', async () => {
    await make(['on_crash', 'preserve']);
    await end(1, 3);
    const body = (await call('xend.domain', 'g')) as Sxp;
    expect([childValue(body, 'state'), childValue(body, 'status')]).toEqual(['----c-', 5]);
    expect(await host.store.readString('/local/domain/1/xend/shutdown_completed')).toBe('True');
    await host.restart();
    await host.xend.manager.settle();
    expect(await names()).toEqual(['Domain-0', 'g']);
    await call('xend.domain.destroy', 'g');
    expect(await names()).toEqual(['Domain-0']);
  });

  it('rename-restart puts the body aside and starts another', async () => {
    await make(['on_crash', 'rename-restart']);
    host.clock.advance(61_000_000_000n);
    await end(1, 3);
    const [, aside, g] = (await names()) as string[];
    expect(aside).toMatch(/^Domain-[0-9a-f-]{36}$/);
    expect(g).toBe('g');
    expect(childValue((await call('xend.domain', 'g')) as Sxp, 'domid')).toBe(2);
    expect(childValue((await call('xend.domain', aside ?? '')) as Sxp, 'domid')).toBe(1);
  });

  it('cleans up after a domain that another tool destroyed', async () => {
    await make();
    await host.xc.domainDestroy(1);
    await host.xend.manager.refresh();
    await host.xend.manager.settle();
    expect(await names()).toEqual(['Domain-0']);
    expect(await host.store.tryDirectory('/local/domain')).toEqual(['0']);
  });
});
