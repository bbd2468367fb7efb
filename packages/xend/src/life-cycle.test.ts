import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { childValue, type Sxp } from '@xenhost/sxp';
import { config, xendFixture } from './testing/xend-fixture.ts';
import { settled } from './testing/settled.ts';

const host = xendFixture();
const { call, fault, names } = host;

const UUID = '11111111-2222-4333-8444-555555555555';
const path = (...parts: string[]) => join(host.directory, 'lib', ...parts);

describe('the config store', () => {
  it('keeps what a crash leaves of a write out of sight', async () => {
    await call('xend.domain.new', config('m', ['uuid', UUID]));
    const file = path('domains', UUID, 'config.sxp');
    const whole = readFileSync(file, 'utf8');
    writeFileSync(`${file}.new`, whole.slice(0, 40));
    mkdirSync(path('domains', 'aaaa.deleted'));
    writeFileSync(path('domains', 'aaaa.deleted', 'config.sxp'), whole);
    await host.restart();
    expect(await names()).toEqual(['Domain-0', 'm']);
    expect(readdirSync(path('domains'))).toEqual([UUID]);
    expect(readdirSync(path('domains', UUID))).toEqual(['config.sxp']);
  });

  it.each([
    ['half a file', '(domain (name m'],
    ['nothing', ''],
    ['another machine', '(domain (name m)(memory 64)(uuid 99999999-2222-4333-8444-555555555555))'],
  ])('leaves a file of %s alone', async (_, text) => {
    mkdirSync(path('domains', UUID), { recursive: true });
    writeFileSync(path('domains', UUID, 'config.sxp'), text);
    await host.restart();
    expect(await names()).toEqual(['Domain-0']);
    expect(readFileSync(path('domains', UUID, 'config.sxp'), 'utf8')).toBe(text);
  });
});

describe('a xend that comes back', () => {
  it('knows everything of the domains that run', async () => {
    const vif: Sxp = ['vif', ['bridge', 'xenbr0'], ['mac', '00:16:3e:01:02:03'], ['rate', '10Mb/s@20ms'], ['script', 'vif-nat']];
    const more: Sxp[] = [['vcpus', 2], ['cpu_weight', 300], ['on_crash', 'preserve'], ['on_reboot', 'destroy'], ['description', "it's (mine)"]];
    await call('xend.domain.create', config('g', ...more, ['device', vif], ['device', ['vkbd']], ['cpuid', ['1:ecx=xxx0' + 'x'.repeat(28)]]));
    await call('xend.domain.setMemoryTarget', 'g', 48);
    await call('xend.domain.pincpu', 'g', 1, '0');
    await call('xend.domain.setName', 'g', 'h');
    const before = await call('xend.domain', 'h', true);
    await host.restart();
    expect(await call('xend.domain', 'h', true)).toEqual(before);
    // A device that is plugged in now gets what the first ones got.
    const adding = call('xend.domain.device_create', 'h', ['vif', ['mac', '00:16:3e:01:02:04']]);
    await settled(() => host.store.exists('/local/domain/0/backend/vif/1/1'), true);
    await host.store.write('/local/domain/0/backend/vif/1/1/hotplug-status', 'connected');
    await adding;
    expect(await host.store.readString('/local/domain/1/device/vif/1/protocol')).toBe('x86_64-abi');
    expect(readdirSync(path('running'))).toHaveLength(1);
    await call('xend.domain.destroy', 'h');
    expect(readdirSync(path('running'))).toEqual([]);
  }); // prettier-ignore

  it('finds them from xenstore alone when its files are lost', async () => {
    await call('xend.domain.create', config('g', ['on_crash', 'preserve'], ['device', ['vif', ['mac', '00:16:3e:01:02:03']]]));
    const before = (await call('xend.domain', 'g', true)) as Sxp;
    writeFileSync(path('running', `${String(childValue(before, 'uuid'))}.sxp`), 'rubbish');
    await host.restart();
    const after = (await call('xend.domain', 'g', true)) as Sxp;
    for (const key of ['uuid', 'domid', 'image', 'on_crash', 'memory', 'maxmem', 'start_time', 'store_mfn']) {
      expect([key, childValue(after, key)]).toEqual([key, childValue(before, key)]);
    }
    expect(JSON.stringify(after)).toContain('00:16:3e:01:02:03');
  }); // prettier-ignore

  it('knows managed domains that run as such', async () => {
    await call('xend.domain.new', config('m', ['uuid', UUID]));
    await call('xend.domain.start', 'm', false);
    await host.restart();
    expect(await names()).toEqual(['Domain-0', 'm']);
    expect(await fault('xend.domain.start', 'm')).toEqual([2, 'Domain is already running']);
    await call('xend.domain.destroy', 'm');
    expect(await names()).toEqual(['Domain-0', 'm']);
    await call('xend.domain.delete', 'm');
    expect(existsSync(path('domains', UUID))).toBe(false);
  });

  it('starts what shall run whenever it does', async () => {
    await call('xend.domain.new', config('auto', ['on_xend_start', 'start']));
    await call('xend.domain.new', config('manual'));
    expect([...host.xc.domains.keys()]).toEqual([0]);
    await host.restart();
    await settled(async () => (await call('xend.domains_with_state', false, 'running', false)) as string[], ['Domain-0', 'auto']);
    expect(await call('xend.domains_with_state', false, 'halted', false)).toEqual(['manual']);
  }); // prettier-ignore
});

describe('a xend that goes', () => {
  const onStop = async (action: string) => {
    await call('xend.domain.create', config('g', ['on_xend_stop', action]));
    await call('xend.domain.unpause', 'g');
    await host.restart();
  };

  it('asks domains to shut down when they say so', async () => {
    await onStop('shutdown');
    expect(await host.store.tryRead('/local/domain/1/control/shutdown')).toBe('poweroff');
  });

  it('ends them when they say so, and leaves others alone', async () => {
    await onStop('destroy');
    expect(await names()).toEqual(['Domain-0']);
    await onStop('ignore');
    expect(await names()).toEqual(['Domain-0', 'g']);
    expect(await host.store.tryRead('/local/domain/2/control/shutdown')).toBeUndefined();
  });
});

it('a renamed body and its successor are two machines to the next xend', async () => {
  await call('xend.domain.create', config('g', ['on_crash', 'rename-restart']));
  await call('xend.domain.unpause', 'g');
  host.clock.advance(61_000_000_000n);
  await host.end(1, 3);
  const both = await names();
  await host.restart();
  expect(await names()).toEqual(both);
  expect(childValue((await call('xend.domain', 'g')) as Sxp, 'domid')).toBe(2);
});
