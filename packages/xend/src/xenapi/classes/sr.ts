/** SR: storage repositories (Xen 4.4 `XendStorageRepository.py`); PBD: that the host has them (`XendPBD.py`). */
import { handleInvalid, limitReached, notAllowed, unspecifiedAttribute } from '../errors.ts';
import { MAX_RECORDS } from '../limits.ts';
import { PBDS, pbdsOf } from '../pbds.ts';
import { mapIn, textIn, type JsonRecord } from '../state.ts';
import type { Repository, Vdi } from '../storage/storage.ts';
import { defineClass, writer } from '../table.ts';
import { convert } from '../values.ts';
import type { World } from '../world.ts';

const repository = writer<Repository>();

const disksOf = (world: World, { ref }: Repository): Vdi[] => world.storage.all().filter(({ sr }) => sr === ref);
const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

export const sr = defineClass<Repository>({
  name: 'SR',
  doc: 'A storage repository: a folder of disk images.',
  all: (world) => world.storage.repositories(),
  find: (world, ref) => world.storage.repository(ref),
  refOf: ({ ref }) => ref,
  label: ({ nameLabel }) => nameLabel,
  fields: [
    repository.rw(
      'name_label',
      'string',
      (_, { nameLabel }) => nameLabel,
      (world, { ref }, name_label) => world.storage.describe(ref, { name_label }),
    ),
    repository.rw(
      'name_description',
      'string',
      (_, { nameDescription }) => nameDescription,
      (world, { ref }, name_description) => world.storage.describe(ref, { name_description }),
    ),
    repository.ro('VDIs', 'set', (world, self) => disksOf(world, self).map(({ ref }) => ref)),
    repository.ro('PBDs', 'set', (world, { ref }) => pbdsOf(world, ref)),
    repository.ro('virtual_allocation', 'int', (world, self) =>
      sum(disksOf(world, self).map(({ virtualSize }) => virtualSize)),
    ),
    repository.ro('physical_utilisation', 'int', async (world, self) => {
      const own = disksOf(world, self).filter(({ path }) => path !== '');
      return sum(await Promise.all(own.map((disk) => world.storage.allocated(disk))));
    }),
    repository.ro('physical_size', 'int', async (world, self) => (await world.storage.space(self)).size),
    repository.ro('type', 'string', (_, { type }) => type),
    repository.ro('content_type', 'string', () => ''),
  ],
});

interface Pbd {
  readonly ref: string;
  readonly record: JsonRecord;
}

const attachment = writer<Pbd>();

export const pbd = defineClass<Pbd>({
  name: 'PBD',
  doc: 'That a host has a storage repository.',
  all: (world) => [...world.state.table(PBDS)].map(([ref, record]) => ({ ref, record })),
  find(world, ref) {
    const record = world.state.table(PBDS).get(ref);
    return record && { ref, record };
  },
  refOf: ({ ref }) => ref,
  fields: [
    attachment.ro('host', 'ref', (_, { record }) => textIn(record, 'host')),
    attachment.ro('SR', 'ref', (_, { record }) => textIn(record, 'SR')),
    attachment.ro('device_config', 'map', (_, { record }) => mapIn(record, 'device_config')),
    attachment.ro('currently_attached', 'bool', () => true),
  ],
  operations: [
    attachment.func({
      name: 'create',
      doc: 'Says that the host has a repository.',
      returns: 'PBD',
      params: [{ name: 'record', kind: 'struct' }],
      async run(world, _, record) {
        for (const name of ['host', 'SR', 'device_config']) {
          if (!Object.hasOwn(record, name)) throw unspecifiedAttribute(name, 'PBD');
        }
        const host = convert('string', record['host'] ?? '', 'PBD.host');
        const repositoryRef = convert('string', record['SR'] ?? '', 'PBD.SR');
        if (host !== world.hostRef) throw handleInvalid('host', host);
        if (!world.storage.repository(repositoryRef)) throw handleInvalid('SR', repositoryRef);
        if (world.state.table(PBDS).size >= MAX_RECORDS) throw limitReached('PBDs', MAX_RECORDS);
        const device_config = convert('map', record['device_config'] ?? {}, 'PBD.device_config');
        const ref = world.newRef();
        await world.state.put(PBDS, ref, { host, SR: repositoryRef, device_config });
        return ref;
      },
    }),
    attachment.method({
      name: 'destroy',
      doc: 'Says so no more; the last one of a repository stays.',
      async run(world, _, { ref, record }) {
        if (pbdsOf(world, textIn(record, 'SR')).length < 2) throw notAllowed('the repository has no other PBD');
        await world.state.remove(PBDS, ref);
      },
    }),
    attachment.func({
      name: 'get_by_SR',
      doc: 'The PBDs of a repository.',
      reads: true,
      returns: 'set',
      params: [{ name: 'sr', kind: 'ref' }],
      run: (world, _, ref) => pbdsOf(world, ref),
    }),
  ],
});
