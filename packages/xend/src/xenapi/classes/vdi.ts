/** VDI: disk images (Xen 4.4 `XendVDI.py`; snapshot, clone, copy and resize are what XenServer's clients ask for). */
import { handleInvalid, valueNotSupported } from '../errors.ts';
import { VDI_TYPES, type Vdi } from '../storage/storage.ts';
import { defineClass, writer, type Call } from '../table.ts';
import { convert } from '../values.ts';
import type { World } from '../world.ts';
import { setSecurityLabel } from './labels.ts';

const { ro, rw, func, method } = writer<Vdi>();

const SECTOR_BYTES = 512;
const DRIVER = { name: 'driver_params', kind: 'map', optional: true } as const;
const SIZE = { name: 'size', kind: 'int' } as const;

const whole = (bytes: number): number => Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;

const copyOf = async (
  world: World,
  call: Call,
  vdi: Vdi,
  request: Parameters<World['storage']['copy']>[1],
): Promise<string> => (await world.storage.copy(vdi, request, call.progress)).ref;

export const vdi = defineClass<Vdi>({
  name: 'VDI',
  doc: 'A disk image.',
  all: (world) => world.storage.all(),
  find: (world, ref) => world.storage.find(ref),
  refOf: ({ ref }) => ref,
  label: ({ nameLabel }) => nameLabel,
  fields: [
    rw(
      'name_label',
      'string',
      (_, { nameLabel }) => nameLabel,
      (world, disk, name_label) => world.storage.change(disk, { name_label }),
    ),
    rw(
      'name_description',
      'string',
      (_, { nameDescription }) => nameDescription,
      (world, disk, name_description) => world.storage.change(disk, { name_description }),
    ),
    ro('SR', 'ref', (_, { sr }) => sr),
    ro('VBDs', 'set', (world, disk) => world.storage.usersOf(disk).map(({ device }) => device.uuid)),
    ro('physical_utilisation', 'int', (world, disk) => world.storage.allocated(disk)),
    rw(
      'virtual_size',
      'int',
      (_, { virtualSize }) => virtualSize,
      (world, disk, size) => world.storage.resize(disk, whole(size)),
    ),
    rw(
      'sharable',
      'bool',
      (_, { sharable }) => sharable,
      (world, disk, sharable) => world.storage.change(disk, { sharable }),
    ),
    rw(
      'read_only',
      'bool',
      (_, { readOnly }) => readOnly,
      (world, disk, read_only) => world.storage.change(disk, { read_only }),
    ),
    ro('type', 'string', (_, { type }) => type),
    rw(
      'other_config',
      'map',
      (_, { otherConfig }) => otherConfig,
      (world, disk, map) => world.storage.change(disk, { other_config: map }),
    ),
    ro('security_label', 'string', () => ''),
    ro('is_a_snapshot', 'bool', (_, { snapshotOf }) => snapshotOf !== '', { original: false }),
    ro('snapshot_of', 'ref', (_, { snapshotOf }) => snapshotOf, { original: false }),
  ],
  operations: [
    func({
      name: 'create',
      doc: 'Makes a disk in a repository: an empty image, or in the local one an image that is there.',
      returns: 'VDI',
      params: [{ name: 'record', kind: 'struct' }],
      async run(world, _, record) {
        const given = (name: string) => (Object.hasOwn(record, name) ? record[name] : undefined) ?? undefined;
        const text = (name: string): string => convert('string', given(name) ?? '', `VDI.${name}`);
        const flag = (name: string): boolean => convert('bool', given(name) ?? false, `VDI.${name}`);
        const type = text('type') || 'system';
        if (!VDI_TYPES.includes(type)) throw valueNotSupported('VDI.type', type, `one of ${VDI_TYPES.join(', ')}`);
        const made = await world.storage.create({
          sr: text('SR'),
          nameLabel: text('name_label'),
          nameDescription: text('name_description'),
          virtualSize: whole(convert('int', given('virtual_size') ?? 0, 'VDI.virtual_size')),
          type,
          sharable: flag('sharable'),
          readOnly: flag('read_only'),
          otherConfig: convert('map', given('other_config') ?? {}, 'VDI.other_config'),
        });
        return made.ref;
      },
    }),
    method({
      name: 'destroy',
      doc: 'Removes a disk that no machine has, and its image when it is the repository’s own.',
      run: (world, _, disk) => world.storage.destroy(disk),
    }),
    method({
      name: 'snapshot',
      doc: 'Keeps a disk as it is now: a read-only copy.',
      original: false,
      returns: 'VDI',
      params: [DRIVER],
      run: (world, call, disk) => copyOf(world, call, disk, { snapshot: true }),
    }),
    method({
      name: 'clone',
      doc: 'Copies a disk within its repository.',
      original: false,
      returns: 'VDI',
      params: [DRIVER],
      run: (world, call, disk) => copyOf(world, call, disk, { snapshot: false }),
    }),
    method({
      name: 'copy',
      doc: 'Copies a disk into a repository.',
      original: false,
      returns: 'VDI',
      params: [{ name: 'sr', kind: 'ref' }],
      run(world, call, disk, sr) {
        if (!world.storage.repository(sr)) throw handleInvalid('SR', sr);
        return copyOf(world, call, disk, { snapshot: false, sr });
      },
    }),
    method({
      name: 'resize',
      doc: 'Makes a disk larger.',
      original: false,
      params: [SIZE],
      run: (world, _, disk, size) => world.storage.resize(disk, whole(size)),
    }),
    setSecurityLabel(method),
  ],
});
