/**
 * PPCI, DPCI, PSCSI, PSCSI_HBA, DSCSI, DSCSI_HBA: devices of the host given to machines (Xen 4.4 `XendPPCI.py` and the like).
 * This host has none, so a machine can be given none; the classes answer as those of a real host without such hardware.
 */
import type { XmlRpcStruct } from '@xenhost/xmlrpc-codec';
import { handleInvalid, unspecifiedAttribute } from '../errors.ts';
import { emptyClass, writer, type Operation } from '../table.ts';
import { convert, type Kind } from '../values.ts';
import { findVm } from './vm.ts';

const { func, method } = writer<never>();

/** A creation that finds out, attribute by attribute, that what it asks for is not there. */
const create = (name: string, hardware: string): Operation<never> =>
  func({
    name: 'create',
    doc: `Gives a machine a ${hardware}.`,
    returns: name,
    params: [{ name: 'record', kind: 'struct' }],
    run(world, _, record) {
      for (const key of ['VM', hardware]) if (!Object.hasOwn(record, key)) throw unspecifiedAttribute(key, name);
      const vm = refIn(record, 'VM', name);
      if (!findVm(world, vm)) throw handleInvalid('VM', vm);
      throw handleInvalid(hardware, refIn(record, hardware, name));
    },
  });

const refIn = (record: XmlRpcStruct, key: string, name: string): string =>
  convert('string', record[key] ?? '', `${name}.${key}`);

const destroy = method({ name: 'destroy', doc: 'Takes the device away.', run: () => undefined });

const all = (kind: Kind, ...names: readonly string[]): (readonly [string, Kind])[] => names.map((name) => [name, kind]);

export const passThrough = [
  emptyClass({
    name: 'PPCI',
    doc: 'A PCI device of the host.',
    fields: [
      ...all('ref', 'host'),
      ...all('int', 'domain', 'bus', 'slot', 'func'),
      ...all('string', 'name', 'vendor_name', 'device_name', 'class_name', 'subsystem_vendor_name', 'subsystem_name'),
      ...all('int', 'vendor_id', 'device_id', 'class_code', 'revision_id', 'subsystem_vendor_id', 'subsystem_id'),
      ...all('string', 'driver'),
    ],
  }),
  emptyClass({
    name: 'DPCI',
    doc: 'A PCI device that a machine was given.',
    fields: [
      ...all('ref', 'VM', 'PPCI'),
      ...all('int', 'virtual_domain', 'virtual_bus', 'virtual_slot', 'virtual_func', 'hotplug_slot'),
      ...all('string', 'virtual_name', 'key'),
      ...all('map', 'options'),
    ],
    operations: [create('DPCI', 'PPCI'), destroy],
  }),
  emptyClass({
    name: 'PSCSI',
    doc: 'A SCSI device of the host.',
    fields: [
      ...all('ref', 'host', 'HBA'),
      ...all('int', 'physical_host', 'physical_channel', 'physical_target', 'physical_lun'),
      ...all('string', 'physical_HCTL', 'vendor_name', 'model'),
      ...all('int', 'type_id'),
      ...all('string', 'type', 'dev_name', 'sg_name', 'revision', 'scsi_id'),
      ...all('int', 'scsi_level'),
    ],
  }),
  emptyClass({
    name: 'PSCSI_HBA',
    doc: 'A SCSI adapter of the host.',
    fields: [...all('ref', 'host'), ...all('int', 'physical_host'), ...all('set', 'PSCSIs')],
  }),
  emptyClass({
    name: 'DSCSI',
    doc: 'A SCSI device that a machine was given.',
    fields: [
      ...all('ref', 'VM', 'PSCSI', 'HBA'),
      ...all('int', 'virtual_host', 'virtual_channel', 'virtual_target', 'virtual_lun'),
      ...all('string', 'virtual_HCTL'),
      ...all('map', 'runtime_properties'),
    ],
    operations: [create('DSCSI', 'PSCSI'), destroy],
  }),
  emptyClass({
    name: 'DSCSI_HBA',
    doc: 'A SCSI adapter that a machine was given.',
    fields: [
      ...all('ref', 'VM'),
      ...all('set', 'PSCSI_HBAs', 'DSCSIs'),
      ...all('int', 'virtual_host'),
      ...all('string', 'assignment_mode'),
    ],
    operations: [create('DSCSI_HBA', 'PSCSI_HBA'), destroy],
  }),
];
