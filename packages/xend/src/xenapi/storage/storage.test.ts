/** Disks over the Xen-API: real images, attached to machines, through crashes. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { vmRecord, XenApiClient } from '../../testing/xen-api-client.ts';
import { xendFixture } from '../../testing/xend-fixture.ts';

/** Much is written to the disk, on machines with other work. */
jest.setTimeout(60_000);

const fixture = xendFixture();
const api = new XenApiClient(() => fixture.xend.xenApi);
const MIB = 1 << 20;

let local: string;
let qcow: string;
beforeEach(async () => {
  await api.login();
  local = (await api.ask<string[]>('SR.get_by_name_label', 'Local'))[0]!;
  qcow = (await api.ask<string[]>('SR.get_by_name_label', 'QCoW'))[0]!;
});

const disk = (SR: string, more: XmlRpcStruct = {}): XmlRpcStruct => ({
  name_label: 'root',
  name_description: '',
  SR,
  virtual_size: String(8 * MIB),
  sector_size: '512',
  type: 'user',
  sharable: false,
  read_only: false,
  other_config: {},
  ...more,
});
const create = (SR: string, more?: XmlRpcStruct) => api.ask<string>('VDI.create', disk(SR, more));
const locationOf = async (vdi: string): Promise<string> =>
  (await api.ask<Record<string, string>>('VDI.get_other_config', vdi))['location'] ?? '';
const pathOf = async (vdi: string): Promise<string> => (await locationOf(vdi)).replace(/^.*?:(?=\/)/, '');
const stored = (): string[] =>
  ['local', 'qcow_file'].flatMap((name) => {
    try {
      return readdirSync(join(fixture.directory, 'lib', 'storage', name));
    } catch {
      return [];
    }
  });
const vbdRecord = (VM: string, VDI: string, more: XmlRpcStruct = {}): XmlRpcStruct => ({
  VM, VDI, device: 'xvda', bootable: true, mode: 'RW', type: 'Disk', driver: 'paravirtualised', image: '', ...more,
}); // prettier-ignore

test('two repositories, each with its PBD on this host', async () => {
  const records = await api.ask<Record<string, XmlRpcStruct>>('SR.get_all_records');
  expect(records[local]).toMatchObject({ type: 'local', name_label: 'Local', VDIs: [], content_type: '' });
  expect(records[qcow]).toMatchObject({ type: 'qcow_file', name_label: 'QCoW', virtual_allocation: '0' });
  const [host] = await api.ask<string[]>('host.get_all');
  for (const [ref, record] of Object.entries(records)) {
    const [pbd] = record['PBDs'] as string[];
    expect(await api.ask('PBD.get_record', pbd!)).toMatchObject({ host, SR: ref, currently_attached: true });
    expect(await api.ask('PBD.get_by_SR', ref)).toEqual([pbd]);
  }
});

test.each(['local', 'qcow_file'])('a disk in %s: made, described, grown, destroyed', async (type) => {
  const sr = type === 'local' ? local : qcow;
  const vdi = await create(sr);
  const path = await pathOf(vdi);
  expect(await api.ask('VDI.get_record', vdi)).toMatchObject({
    uuid: vdi, SR: sr, VBDs: [], virtual_size: String(8 * MIB), type: 'user', sharable: false, read_only: false,
  }); // prettier-ignore
  expect(await api.ask('SR.get_VDIs', sr)).toEqual([vdi]);
  expect(await api.ask('SR.get_virtual_allocation', sr)).toBe(String(8 * MIB));
  const used = await api.ask<string>('VDI.get_physical_utilisation', vdi);
  expect(await api.ask('SR.get_physical_utilisation', sr)).toBe(used);
  expect(Number(used)).toBe(statSync(path).blocks * 512);
  expect(Number(used)).toBeLessThan(MIB);
  await api.ask('VDI.set_virtual_size', vdi, String(9 * MIB + 1));
  expect(await api.ask('VDI.get_virtual_size', vdi)).toBe(String(9 * MIB + 512));
  await api.ask('VDI.resize', vdi, String(10 * MIB));
  if (type === 'local') expect(statSync(path).size).toBe(10 * MIB);
  expect(await api.failure('VDI.resize', vdi, '512')).toEqual([
    'VALUE_NOT_SUPPORTED', 'VDI.virtual_size', '512', 'a disk cannot shrink',
  ]); // prettier-ignore
  await api.ask('VDI.destroy', vdi);
  expect(await api.failure('VDI.get_record', vdi)).toEqual(['HANDLE_INVALID', 'VDI', vdi]);
  expect(stored()).toEqual([]);
});

test('fields are set, and stand after xend has come again', async () => {
  const vdi = await create(qcow);
  const sets: [string, XmlRpcValue][] = [
    ['name_label', 'other'],
    ['name_description', 'a disk'],
    ['sharable', true],
    ['read_only', true],
  ];
  for (const [field, value] of sets) await api.ask(`VDI.set_${field}`, vdi, value);
  await api.ask('VDI.set_other_config', vdi, { colour: 'red', location: 'file:/etc/passwd' });
  await api.ask('SR.set_name_label', qcow, 'Images');
  const location = await locationOf(vdi);
  await fixture.restart();
  await api.login();
  for (const [field, value] of sets) expect(await api.ask(`VDI.get_${field}`, vdi)).toBe(value);
  expect(await api.ask('VDI.get_other_config', vdi)).toEqual({ colour: 'red', location });
  expect(await api.ask('VDI.get_by_name_label', 'other')).toEqual([vdi]);
  expect(await api.ask('SR.get_by_name_label', 'Images')).toEqual([qcow]);
});

test('snapshot, clone and copy are disks of their own', async () => {
  const vdi = await create(local);
  writeFileSync(await pathOf(vdi), 'first');
  const snapshot = await api.ask<string>('VDI.snapshot', vdi);
  const clone = await api.ask<string>('VDI.clone', vdi, {});
  const copy = await api.ask<string>('VDI.copy', vdi, qcow);
  writeFileSync(await pathOf(vdi), 'later');
  expect(await api.ask('VDI.get_record', snapshot)).toMatchObject({ read_only: true, is_a_snapshot: true, snapshot_of: vdi }); // prettier-ignore
  expect(await api.ask('VDI.get_record', clone)).toMatchObject({ read_only: false, is_a_snapshot: false, SR: local });
  expect(await api.ask('VDI.get_SR', copy)).toBe(qcow);
  for (const ref of [snapshot, clone]) expect(readFileSync(await pathOf(ref), 'utf8').slice(0, 5)).toBe('first');
  const back = await api.ask<string>('VDI.copy', copy, local);
  expect(readFileSync(await pathOf(back), 'utf8').slice(0, 5)).toBe('first');
  await api.ask('VDI.destroy', vdi);
  expect(stored()).toHaveLength(4);
});

test('an image that somebody else has made', async () => {
  const path = join(fixture.directory, 'old.img');
  writeFileSync(path, Buffer.alloc(4096));
  const vdi = await create(local, { other_config: { location: `file:${path}` }, virtual_size: '0' });
  expect(await api.ask('VDI.get_virtual_size', vdi)).toBe('4096');
  expect(await api.failure('VDI.resize', vdi, '8192')).toEqual([
    'VDI_ERROR', "Cannot resize an image that is not the repository's", 'root',
  ]); // prettier-ignore
  await api.ask('VDI.destroy', vdi);
  expect(statSync(path).size).toBe(4096);
});

test('a disk is given to a machine, which keeps it', async () => {
  const vm = await api.ask<string>('VM.create', vmRecord('web'));
  const vdi = await create(local);
  const vbd = await api.ask<string>('VBD.create', vbdRecord(vm, vdi));
  expect(await api.ask('VBD.get_record', vbd)).toEqual({
    uuid: vbd, VM: vm, VDI: vdi, device: 'xvda', bootable: true, mode: 'RW', type: 'Disk', metrics: vbd, runtime_properties: {},
  }); // prettier-ignore
  expect([await api.ask('VM.get_VBDs', vm), await api.ask('VDI.get_VBDs', vdi)]).toEqual([[vbd], [vbd]]);
  expect(await api.failure('VDI.destroy', vdi)).toEqual(['VDI_ERROR', 'Cannot destroy VDI with VBDs attached', 'root']);
  await fixture.restart();
  await api.login();
  expect(await api.ask('VBD.get_VDI', vbd)).toBe(vdi);
  await api.ask('VBD.set_mode', vbd, 'RO');
  await api.ask('VBD.set_bootable', vbd, false);
  expect(await api.ask('VBD.get_record', vbd)).toMatchObject({ mode: 'RO', bootable: false });
  await api.ask('VBD.destroy', vbd);
  expect(await api.ask('VM.get_VBDs', vm)).toEqual([]);
  await api.ask('VDI.destroy', vdi);
});

test('a disk of a domain that xm created is known by its image', async () => {
  const vdi = await create(local);
  const location = await locationOf(vdi);
  const devices = [['device', ['vbd', ['uname', location], ['dev', 'xvdb'], ['mode', 'r']]]];
  await fixture.call('xend.domain.new', ['vm', ['name', 'old'], ['memory', 16], ['image', ['linux']], ...devices]);
  const [vbd] = await api.ask<string[]>('VDI.get_VBDs', vdi);
  expect(await api.ask('VBD.get_record', vbd!)).toMatchObject({ VDI: vdi, device: 'xvdb', mode: 'RO' });
});

test('another medium is put into a drive', async () => {
  const vm = await api.ask<string>('VM.create', vmRecord('web'));
  const [first, second] = [await create(local), await create(local)];
  const cd = await api.ask<string>('VBD.create', vbdRecord(vm, first, { device: 'hdc', mode: 'RO', type: 'CD' }));
  await api.ask('VBD.media_change', cd, second);
  expect(await api.ask('VBD.get_record', cd)).toMatchObject({ VDI: second, type: 'CD', device: 'hdc' });
  const vbd = await api.ask<string>('VBD.create', vbdRecord(vm, first));
  expect(await api.failure('VBD.media_change', vbd, second)).toEqual(['HANDLE_INVALID', 'VBD', vbd]);
});

test.each<[string, XmlRpcStruct, string[]]>([
  ['no such repository', { SR: 'x' }, ['HANDLE_INVALID', 'SR', 'x']],
  ['no size', { virtual_size: '0' }, ['VALUE_NOT_SUPPORTED', 'VDI.virtual_size', '0', '1 to 17592186044416 bytes are allowed']], // prettier-ignore
  [
    'a type that is none',
    { type: 'odd' },
    ['VALUE_NOT_SUPPORTED', 'VDI.type', 'odd', 'one of system, user, ephemeral'],
  ],
  ['a place that is none', { other_config: { location: '/etc/passwd' } }, ['VALUE_NOT_SUPPORTED', 'VDI.other_config location', '/etc/passwd', 'file:, phy: or tap: is required']], // prettier-ignore
])('VDI.create with %s makes nothing', async (_, more, description) => {
  expect(await api.failure('VDI.create', disk(local, more))).toEqual(description);
  expect(await api.ask('VDI.get_all')).toEqual([]);
});

test.each<[string, XmlRpcStruct, string[]]>([
  ['VM', { VM: 'x' }, ['HANDLE_INVALID', 'VM', 'x']],
  ['VDI', { VDI: 'x' }, ['HANDLE_INVALID', 'VDI', 'x']],
  ['mode', { mode: 'w!' }, ['VALUE_NOT_SUPPORTED', 'VBD.mode', 'w!', 'RO or RW is required']],
  ['device', { device: '' }, ['CREATE_UNSPECIFIED_ATTRIBUTE', 'device', 'VBD']],
  ['name', { device: 'floppy' }, ['INTERNAL_ERROR', 'Unable to find number for device (floppy)']],
])('VBD.create with a wrong %s', async (_, more, description) => {
  const vm = await api.ask<string>('VM.create', vmRecord('web'));
  const vdi = await create(local);
  expect(await api.failure('VBD.create', vbdRecord(vm, vdi, more))).toEqual(description);
  expect(await api.ask('VBD.get_all')).toEqual([]);
});

describe('xend was killed while', () => {
  const crash = async (state: string, files: readonly string[]): Promise<string> => {
    const vdi = await create(local);
    const path = await pathOf(vdi);
    const file = join(fixture.directory, 'lib', 'state', 'vdi', `${vdi}.json`);
    const record = JSON.parse(readFileSync(file, 'utf8')) as object;
    await fixture.xend.stop();
    writeFileSync(file, JSON.stringify({ ...record, state }));
    execFileSync('rm', [path]);
    for (const suffix of files) writeFileSync(`${path}${suffix}`, 'half');
    fixture.xend = fixture.newXend();
    await fixture.xend.start();
    await api.login();
    return vdi;
  };

  test.each<[string, string, string[]]>([
    ['a disk was being made', 'making', ['.making']],
    ['a disk was just made', 'making', ['']],
    ['a disk was being removed', 'removing', ['']],
    ['a disk had just been removed', 'removing', []],
  ])('%s: neither record nor file is left', async (_, state, files) => {
    await crash(state, files);
    expect(await api.ask('VDI.get_all')).toEqual([]);
    expect(stored()).toEqual([]);
  });
});

test('a damaged record is put aside', async () => {
  const [vdi, whole] = [await create(local), await create(local)];
  await fixture.xend.stop();
  const file = join(fixture.directory, 'lib', 'state', 'vdi', `${vdi}.json`);
  writeFileSync(file, '{"x": ');
  fixture.xend = fixture.newXend();
  await fixture.xend.start();
  await api.login();
  expect(await api.ask('VDI.get_all')).toEqual([whole]);
  expect(readFileSync(`${file}.damaged`, 'utf8')).toBe('{"x": ');
});
