/** A guest that suspends itself when it is asked, saved to a file and made again of it: over the fake hypervisor. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bytesOf } from '@xenhost/base';
import { CpuUserRegs, StartInfo, VcpuGuestContext } from '@xenhost/xen-abi';
import { playBackends } from '../testing/backends.ts';
import { layOutGuest, obeySuspend, PFN } from '../testing/saved-guest.ts';
import { vmRecord, XenApiClient } from '../testing/xen-api-client.ts';
import { config, xendFixture } from '../testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault, names } = host;

const PAGE = 4096;
const AT = VcpuGuestContext.offsets;
const contexts: Uint8Array[] = [];
const guest = (domid: number): void => {
  layOutGuest(host, domid, contexts);
};
const obey = (domid: number): Promise<void> => obeySuspend(host, domid);

const make = async (name = 'g'): Promise<void> => {
  await call('xend.domain.create', config(name, ['device', ['vkbd']]));
  await call('xend.domain.unpause', name);
  contexts.length = 0;
  guest(1);
};

describe('a saved guest', () => {
  const path = (): string => join(host.directory, 'g.img');

  it('is made again of its file, in other frames', async () => {
    host.xc.extendedState = { featureMask: 7n, data: Uint8Array.of(7, 8, 9) };
    host.xc.extendedContext.set([1, 0, 0, 0, 64, 0, 0, 0, 0xcd, 0xab]);
    await make();
    await Promise.all([call('xend.domain.save', 'g', path()), obey(1)]);
    expect(await names()).toEqual(['Domain-0']);
    expect(readFileSync(path()).toString('latin1', 0, 16)).toBe('LinuxGuestRecord');
    await call('xend.domain.restore', path(), false);
    const domain = host.xc.domains.get(2);
    if (!domain) throw new Error('not restored');
    expect(domain.pauses).toBe(0);
    // Frames were given in the order of the file.
    const at = (pfn: number): DataView =>
      new DataView((domain.frames.get(0x10_0000 + pfn) ?? new Uint8Array(PAGE)).buffer);
    const l4 = at(PFN.l4);
    expect([0, 1, 256, 511].map((slot) => l4.getBigUint64(slot * 8, true))).toEqual([
      (BigInt(0x10_0000 + PFN.text) << 12n) | 0x67n, 0n, 0n, (BigInt(0x10_0000 + PFN.gdt) << 12n) | 0x25n,
    ]); // prettier-ignore
    const p2m = at(PFN.p2m);
    expect(p2m.getBigUint64(PFN.gdt * 8, true)).toBe(BigInt(0x10_0000 + PFN.gdt));
    expect(p2m.getBigUint64(8 * 8, true)).toBe(2n ** 64n - 1n);
    const info = StartInfo.view(bytesOf(new Uint8Array(at(PFN.startInfo).buffer)), 0);
    expect([info.store_mfn, info.flags, info.shared_info]).toEqual([BigInt(0x10_0000 + PFN.store), 0, BigInt(domain.sharedInfoFrame) * 4096n]); // prettier-ignore
    const set = bytesOf(contexts.at(-1) ?? new Uint8Array(0)).dv;
    expect(set.getBigUint64(AT.ctrlreg + 24, true)).toBe(BigInt(0x10_0000 + PFN.l4) << 12n);
    expect(set.getBigUint64(AT.user_regs + CpuUserRegs.offsets.rdx, true)).toBe(BigInt(0x10_0000 + PFN.startInfo));
    expect(host.xc.calls).toEqual(expect.arrayContaining([`mmuextPin(2,4,${0x10_0000 + PFN.l4})`, 'vcpuSetextstate(2,0,070809)', 'vcpuSetextcontext(2,0,0100000040000000cdab)'])); // prettier-ignore
    expect(await host.store.readString('/local/domain/2/store/ring-ref')).toBe(String(0x10_0000 + PFN.store));
  });

  it('keeps the numbers of its interfaces, gaps too', async () => {
    const backends = playBackends(host.store);
    await call(
      'xend.domain.create',
      config('g', ...[1, 2, 3].map((n) => ['device', ['vif', ['mac', `00:16:3e:00:00:0${n}`]]])),
    );
    await call('xend.domain.unpause', 'g');
    await call('xend.domain.destroyDevice', 'g', 'vif', 0, true, true);
    guest(1);
    await Promise.all([call('xend.domain.save', 'g', path()), obey(1)]);
    await call('xend.domain.restore', path(), true);
    const vifs = async (domid: number) => await host.store.tryDirectory(`/local/domain/${domid}/device/vif`);
    expect(await vifs(2)).toEqual(['1', '2']);
    expect(await host.store.readString('/local/domain/2/device/vif/1/mac')).toBe('00:16:3e:00:00:02');
    await call('xend.domain.device_create', 'g', ['vif', ['mac', '00:16:3e:00:00:04']]);
    expect(await vifs(2)).toEqual(['1', '2', '3']);
    // A machine that starts anew is numbered anew, as ever.
    await call('xend.domain.reset', 'g');
    expect(await vifs(3)).toEqual(['0', '1', '2']);
    await backends.stop();
  });

  it('goes on after a checkpoint, and when it cannot be written', async () => {
    await make();
    await Promise.all([call('xend.domain.save', 'g', path(), true), obey(1)]);
    expect(await names()).toEqual(['Domain-0', 'g']);
    expect(bytesOf(contexts.at(-1) ?? new Uint8Array(0)).dv.getBigUint64(AT.user_regs + CpuUserRegs.offsets.rax, true)).toBe(1n); // prettier-ignore
    expect(host.xc.domains.get(1)?.shutdownReason).toBeUndefined();
    await host.store.rm('/local/domain/1/control/shutdown');
    host.xc.failures.set('readFrames', 14);
    const [outcome] = await Promise.all([fault('xend.domain.save', 'g', join(host.directory, 'x')), obey(1)]);
    expect(outcome).toEqual([2, `can't write guest state file ${join(host.directory, 'x')}: (14, 'Bad address')`]);
    expect(existsSync(join(host.directory, 'x'))).toBe(false);
    host.xc.failures.clear();
    await host.xend.manager.refresh();
    expect(await call('xend.domains', false)).toEqual(['Domain-0', 'g']);
  });

  it('that is managed is suspended, known as such to the next xend, and resumed', async () => {
    await call('xend.domain.new', config('m'));
    await call('xend.domain.start', 'm', false);
    guest(1);
    await Promise.all([call('xend.domain.suspend', 'm'), obey(1)]);
    await host.restart();
    expect(await call('xend.domains_with_state', false, 'suspended', false)).toEqual(['m']);
    expect(await fault('xend.domain.start', 'm')).toEqual([2, 'Domain is already running']);
    expect(await fault('xend.domain.delete', 'm')).toEqual([2, 'Domain is not halted.']);
    await call('xend.domain.resume', 'm', false);
    expect(await call('xend.domains', false)).toEqual(['Domain-0', 'm']);
    await call('xend.domain.destroy', 'm');
    await call('xend.domain.delete', 'm');
    expect(await names()).toEqual(['Domain-0']);
  });

  it('for one run only stays while it is suspended, and is in the file alone once it is saved', async () => {
    const api = new XenApiClient(() => host.xend.xenApi);
    const more = { PV_kernel: '/boot/vmlinuz', other_config: { transient: 'True' } };
    const ref = await api.ask<string>('VM.create', vmRecord('t', more));
    await api.ask('VM.start', ref, false);
    guest(1);
    await Promise.all([api.ask('VM.suspend', ref), obey(1)]);
    expect(await api.ask('VM.get_power_state', ref)).toBe('Suspended');
    await api.ask('VM.resume', ref, false);
    await host.store.rm('/local/domain/2/control/shutdown');
    guest(2);
    await Promise.all([api.ask('VM.save', ref, path(), false), obey(2)]);
    expect(await names()).toEqual(['Domain-0']);
  });

  it('of a file that is damaged is none, and nothing is left', async () => {
    await make();
    await Promise.all([call('xend.domain.save', 'g', path()), obey(1)]);
    const whole = readFileSync(path());
    const before = await host.tree('/');
    for (let at = 20; at < whole.length; at += 997) {
      writeFileSync(path(), whole.subarray(0, at));
      expect([at, (await fault('xend.domain.restore', path()))[0]]).toEqual([at, 2]);
    }
    for (let at = whole.indexOf('vcpu') - 24; at < whole.length; at += 1499) {
      const broken = Buffer.from(whole);
      broken.fill(0xff, at, at + 8);
      writeFileSync(path(), broken);
      const [code] = await fault('xend.domain.restore', path());
      expect([at, [0, 2].includes(code)]).toEqual([at, true]);
      if (code === 0) await call('xend.domain.destroy', 'g');
    }
    expect(await host.tree('/')).toEqual(before);
    expect([...host.xc.domains.keys()]).toEqual([0]);
  }, 30_000);
});
