/** console: how to look at a machine (Xen 4.4 `XendAPI.py`, console_*). */
import * as operations from '../../domain/operations.ts';
import { CONSOLES, consoleRecord, consolesOf, type Console } from '../consoles.ts';
import { consoleProtocolInvalid, handleInvalid, limitReached, notAllowed } from '../errors.ts';
import { MAX_RECORDS } from '../limits.ts';
import { mapIn } from '../state.ts';
import { defineClass, writer } from '../table.ts';
import { convert } from '../values.ts';
import type { World } from '../world.ts';
import { findVm } from './vm.ts';

const { ro, rw, func } = writer<Console>();

const PROTOCOLS = ['vt100', 'rfb', 'rdp'];
/** Options of a framebuffer that a console's other_config may give. */
const VFB_OPTIONS = ['vnc', 'sdl', 'vncdisplay', 'vnclisten', 'vncpasswd', 'vncunused', 'display', 'xauthority', 'keymap', 'opengl']; // prettier-ignore

const all = (world: World): Console[] => world.manager.all().flatMap((vm) => consolesOf(world, vm));

async function addFramebuffer(
  world: World,
  vm: Console['vm'],
  config: Readonly<Record<string, string>>,
): Promise<string> {
  if (vm.live) throw notAllowed('a running VM cannot get a framebuffer');
  if (vm.config.devices.some((device) => device.class === 'vfb')) throw notAllowed('the VM has a framebuffer already');
  const uuid = world.newRef();
  const options = VFB_OPTIONS.flatMap((key) => (config[key] === undefined ? [] : [[key, config[key]]]));
  await operations.addDevice(world.manager, vm, ['vfb', ['uuid', uuid], ['vnc', 1], ...options]);
  if (!vm.config.devices.some((device) => device.class === 'vkbd')) {
    await operations.addDevice(world.manager, vm, ['vkbd']);
  }
  return uuid;
}

/** Consoles of machines that are no more go when another is stored. */
async function store(world: World, ref: string, record: Parameters<World['state']['put']>[2]): Promise<void> {
  const machines = new Set(world.manager.all().map(({ uuid }) => uuid));
  for (const [known, { VM }] of [...world.state.table(CONSOLES)]) {
    if (typeof VM !== 'string' || !machines.has(VM)) await world.state.remove(CONSOLES, known);
  }
  if (world.state.table(CONSOLES).size >= MAX_RECORDS) throw limitReached('consoles', MAX_RECORDS);
  await world.state.put(CONSOLES, ref, record);
}

export const console = defineClass<Console>({
  name: 'console',
  doc: 'A console of a machine.',
  all,
  find: (world, ref) => all(world).find((known) => known.ref === ref),
  refOf: ({ ref }) => ref,
  fields: [
    ro('VM', 'ref', (_, { vm }) => vm.uuid),
    ro('protocol', 'string', (_, { protocol }) => protocol),
    ro('location', 'string', (_, { location }) => location),
    rw(
      'other_config',
      'map',
      (world, { ref }) => mapIn(consoleRecord(world, ref), 'other_config'),
      (world, { ref, vm, protocol }, map) => store(world, ref, { VM: vm.uuid, protocol, other_config: map }),
    ),
  ],
  operations: [
    func({
      name: 'create',
      doc: 'Gives a machine a console: text, or a framebuffer that VNC shows.',
      returns: 'console',
      params: [{ name: 'record', kind: 'struct' }],
      async run(world, _, record) {
        const vmRef = convert('string', record['VM'] ?? '', 'console.VM');
        const vm = findVm(world, vmRef);
        if (!vm) throw handleInvalid('VM', vmRef);
        if (!Object.hasOwn(record, 'protocol')) throw consoleProtocolInvalid('No protocol specified');
        const protocol = convert('string', record['protocol'] ?? '', 'console.protocol');
        if (!PROTOCOLS.includes(protocol)) throw consoleProtocolInvalid(protocol);
        const config = convert('map', record['other_config'] ?? {}, 'console.other_config');
        if (protocol === 'vt100') {
          // Every domain has the one.
          const known = consolesOf(world, vm).find((console) => console.protocol === protocol);
          if (known) return known.ref;
        }
        const ref = protocol === 'rfb' ? await addFramebuffer(world, vm, config) : world.newRef();
        await store(world, ref, { VM: vm.uuid, protocol, other_config: config });
        return ref;
      },
    }),
  ],
});
