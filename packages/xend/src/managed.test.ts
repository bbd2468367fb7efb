import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { childValue, type Sxp } from '@xenhost/sxp';
import { config, xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault, names } = host;

describe('managed domains', () => {
  it('are kept, started, stopped and deleted', async () => {
    await call('xend.domain.new', config('m', ['device', ['vif', ['mac', '00:16:3e:0a:0b:0c']]]));
    const halted = (await call('xend.domain', 'm', true)) as Sxp;
    expect(childValue(halted, 'domid')).toBeUndefined();
    expect(childValue(halted, 'status')).toBe(0);
    await host.restart();
    expect(await call('xend.domain', 'm', true)).toEqual(halted);
    const starting = call('xend.domain.start', 'm', false);
    for (let i = 0; i < 200 && !(await host.store.exists('/local/domain/0/backend/vif/1/0')); i += 1);
    await host.store.write('/local/domain/0/backend/vif/1/0/hotplug-status', 'connected');
    await starting;
    expect(await fault('xend.domain.start', 'm')).toEqual([2, 'Domain is already running']);
    expect(await fault('xend.domain.delete', 'm')).toEqual([2, 'Domain is not halted.']);
    await call('xend.domain.destroy', 'm');
    expect(childValue((await call('xend.domain', 'm')) as Sxp, 'status')).toBe(0);
    await call('xend.domain.delete', 'm');
    expect(await names()).toEqual(['Domain-0']);
  });

  it('leave no folder behind that a crash left empty, and keep what they cannot read', async () => {
    const folder = join(host.directory, 'lib', 'domains');
    mkdirSync(join(folder, 'empty'), { recursive: true });
    mkdirSync(join(folder, 'other'));
    writeFileSync(join(folder, 'other', 'precious'), '');
    await host.restart();
    expect(readdirSync(folder)).toEqual(['other']);
  });
});
