/** Devices of running machines over the Xen-API: plugged in and out while a backend plays its part. */
import type { XmlRpcStruct } from '@xenhost/xmlrpc-codec';
import { vmRecord, XenApiClient } from '../testing/xen-api-client.ts';
import { xendFixture } from '../testing/xend-fixture.ts';

const fixture = xendFixture();
const api = new XenApiClient(() => fixture.xend.xenApi);

let vm: string;
let domid: string;
let gone: AbortController;
let playing: Promise<void>;

/** Connects every device that appears, lets go of those that close. */
async function playBackend(signal: AbortSignal): Promise<void> {
  for await (const { path } of fixture.store.watch('/local/domain/0/backend', { signal })) {
    if (!path.endsWith('/state')) continue;
    const state = await fixture.store.tryRead(path);
    const base = path.slice(0, -'/state'.length);
    if (state === '1') await fixture.store.write(`${base}/hotplug-status`, 'connected');
    if (state === '5') await fixture.store.write(path, '6');
  }
}

beforeEach(async () => {
  gone = new AbortController();
  playing = playBackend(gone.signal);
  await api.login();
  vm = await api.ask<string>('VM.create', vmRecord('web'));
  await api.ask('VM.start', vm, false);
  domid = await api.ask<string>('VM.get_domid', vm);
});
afterEach(async () => {
  gone.abort();
  await playing;
});

const backends = async (className: string): Promise<string[]> =>
  fixture.store.tryDirectory(`/local/domain/0/backend/${className}/${domid}`);

test('a disk', async () => {
  const [sr] = await api.ask<string[]>('SR.get_by_name_label', 'QCoW');
  const vdi = await api.ask<string>('VDI.create', { SR: sr!, virtual_size: '1048576', name_label: 'd' });
  const vbd = await api.ask<string>('VBD.create', { VM: vm, VDI: vdi, device: 'xvdb', mode: 'RW', type: 'Disk' });
  expect(await backends('tap')).toEqual(['51728']);
  const path = `/local/domain/0/backend/tap/${domid}/51728`;
  expect(await fixture.store.tryRead(`${path}/params`)).toMatch(/^qcow2:\/.*\.qcow2$/);
  expect(await api.ask('VBD.get_runtime_properties', vbd)).toMatchObject({ 'virtual-device': '51728', state: '1' });
  expect(await api.failure('VDI.resize', vdi, '2097152')).toEqual(['VDI_ERROR', 'VDI is in use by a running VM', 'd']);
  expect(await api.failure('VDI.snapshot', vdi)).toEqual(['VDI_ERROR', 'VDI is written by web, which runs', 'd']);
  const disk = `bus/xen-backend/devices/vbd-${domid}-51728`;
  await api.ask('VBD_metrics.get_record', vbd);
  fixture.counted(disk, { rd_sect: 4096, wr_sect: 8 });
  fixture.clock.advance(2_000_000_000n);
  expect(await api.ask('VBD_metrics.get_record', vbd)).toMatchObject({
    io_read_kbs: { value: 1024 }, io_write_kbs: { value: 2 },
  }); // prettier-ignore
  await api.ask('VM.pause', vm);
  const snapshot = await api.ask<string>('VDI.snapshot', vdi);
  await api.ask('VDI.destroy', snapshot);
  await api.ask('VBD.destroy', vbd);
  expect(await backends('tap')).toEqual([]);
  expect(await api.ask('VM.get_VBDs', vm)).toEqual([]);
  await api.ask('VDI.destroy', vdi);
});

test.each([
  ['disk', 'Disk'],
  ['cd', 'CD'],
])("xm's own word for a %s", async (type, shown) => {
  const [sr] = await api.ask<string[]>('SR.get_by_name_label', 'Local');
  const vdi = await api.ask<string>('VDI.create', { SR: sr!, other_config: { location: 'file:/d' }, name_label: 'd' });
  const vbd = await api.ask<string>('VBD.create', { VM: vm, VDI: vdi, device: 'xvdb', mode: 'RO', type });
  expect(await api.ask('VBD.get_type', vbd)).toBe(shown);
});

test('a CD drive without a disc, and with one', async () => {
  const [sr] = await api.ask<string[]>('SR.get_by_name_label', 'Local');
  const vdiAt = (location: string) =>
    api.ask<string>('VDI.create', { SR: sr!, virtual_size: '-1', name_label: 'd', other_config: { location } });
  const [none, disc] = [await vdiAt(''), await vdiAt('file:/disc')];
  const vbd = await api.ask<string>('VBD.create', { VM: vm, VDI: none, device: 'hdc', mode: 'RO', type: 'CD' });
  const params = (): Promise<string | undefined> =>
    fixture.store.tryRead(`/local/domain/0/backend/vbd/${domid}/5632/params`);
  expect([await api.ask('VBD.get_VDI', vbd), await api.ask('VDI.get_virtual_size', none)]).toEqual([none, '0']);
  expect(await params()).toBe('');
  await api.ask('VBD.media_change', vbd, disc);
  expect([await api.ask('VBD.get_VDI', vbd), await params()]).toEqual([disc, '/disc']);
});

test('an interface, and what goes through it', async () => {
  const vif = await api.ask<string>('VIF.create', { VM: vm, network: '', MAC: '', MTU: '9000' });
  expect(await backends('vif')).toEqual(['0']);
  const record = await api.ask<XmlRpcStruct>('VIF.get_record', vif);
  expect(record).toMatchObject({ device: 'eth0', MTU: '9000', MAC: expect.stringMatching(/^00:16:3e:/) as string });
  expect(record['runtime_properties']).toMatchObject({ handle: '0', mac: record['MAC'] });
  // A guest writes what it likes; it spoils no answer.
  await fixture.store.write(`/local/domain/${domid}/device/vif/0/note`, 'a\u0001b');
  const odd = await api.ask<XmlRpcStruct>('VIF.get_runtime_properties', vif);
  expect(odd['note']).toBe('a?b');
  const [network] = await api.ask<string[]>('network.get_by_name_label', 'xenbr0');
  expect(record['network']).toBe(network);
  const counted = (tx_bytes: number, rx_bytes: number): void => {
    fixture.counted(`class/net/vif${domid}.0`, { tx_bytes, rx_bytes });
  };
  counted(1 << 20, 0);
  await api.ask('VIF_metrics.get_io_read_kbs', vif);
  counted(3 << 20, 0);
  fixture.clock.advance(2_000_000_000n);
  expect(await api.ask('VIF_metrics.get_record', vif)).toMatchObject({
    io_read_kbs: { value: 1024 }, io_write_kbs: { value: 0 }, io_total_read_kbs: { value: 3072 },
  }); // prettier-ignore
  await api.ask('VIF.destroy', vif);
  expect(await backends('vif')).toEqual([]);
  expect(await api.failure('VIF.get_MAC', vif)).toEqual(['HANDLE_INVALID', 'VIF', vif]);
});

test('a device whose backend refuses it is not there', async () => {
  gone.abort();
  await playing;
  const refuse = new AbortController();
  const refusing = (async () => {
    for await (const { path } of fixture.store.watch('/local/domain/0/backend', { signal: refuse.signal })) {
      if (!path.endsWith('/state') || (await fixture.store.tryRead(path)) !== '1') continue;
      const base = path.slice(0, -'/state'.length);
      await fixture.store.write(`${base}/hotplug-error`, 'no such\u0007 bridge');
      await fixture.store.write(`${base}/hotplug-status`, 'error');
    }
  })();
  expect(await api.failure('VIF.create', { VM: vm, MAC: '00:16:3e:00:00:09' })).toEqual([
    'INTERNAL_ERROR', 'Device 0 (vif) could not be connected. no such? bridge',
  ]); // prettier-ignore
  expect(await api.ask('VM.get_VIFs', vm)).toEqual([]);
  expect(await backends('vif')).toEqual([]);
  refuse.abort();
  await refusing;
});

test('use of vCPUs is what they used between two looks', async () => {
  const metrics = await api.ask<string>('VM.get_metrics', vm);
  await api.ask('VM_metrics.get_VCPUs_utilisation', metrics);
  fixture.xc.domains.get(Number(domid))!.cpuTimeNs += 1_000_000_000n;
  fixture.clock.advance(4_000_000_000n);
  expect(await api.ask('VM_metrics.get_VCPUs_utilisation', metrics)).toMatchObject({ 0: { value: 0.25 } });
});
