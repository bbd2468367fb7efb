/** VM_metrics: how a machine is doing right now (Xen 4.4 `XendVMMetrics.py`). */
import type { VcpuInfo } from '@xenhost/libxenctrl';
import { float } from '@xenhost/sxp';
import { cpusOfMask } from '../../config/cpus.ts';
import type { Vm } from '../../domain/vm.ts';
import { defineClass, writer } from '../table.ts';
import { vcpuParams } from '../vm-config.ts';
import type { World } from '../world.ts';

const { ro } = writer<Vm>();
const BYTES_PER_PAGE = 4096;
const NS_PER_S = 1e9;

const refOf = (world: World, vm: Vm): string => world.derivedRef('VM_metrics', vm.uuid);

/** What the hypervisor says of each vCPU, by number as text; empty for a machine without a domain. */
async function eachVcpu<T>(
  world: World,
  vm: Vm,
  read: (info: VcpuInfo, vcpu: number, domid: number) => T | Promise<T>,
): Promise<Record<string, T>> {
  const live = vm.live;
  if (!live) return {};
  const numbers = Array.from({ length: live.info.maxVcpuId + 1 }, (_, vcpu) => vcpu);
  const pairs = await Promise.all(
    numbers.map(async (vcpu): Promise<[string, T]> => {
      const info = await world.manager.ports.xc.vcpuGetinfo(live.domid, vcpu);
      return [String(vcpu), await read(info, vcpu, live.domid)];
    }),
  );
  return Object.fromEntries(pairs);
}

const FLAGS = ['blocked', 'online', 'running'] as const;
const STATES = ['running', 'blocked', 'paused', 'dying', 'crashed', 'shutdown'] as const;

async function paramsOf(world: World, vm: Vm): Promise<Record<string, string>> {
  const live = vm.live;
  if (!live) return {};
  const { xc } = world.manager.ports;
  const nrCpus = (await xc.physinfo()).maxCpuId + 1;
  const maps = await eachVcpu(world, vm, async (_, vcpu, domid) =>
    cpusOfMask(await xc.vcpuGetaffinity(domid, vcpu), nrCpus).join(','),
  );
  const { weight = '', cap = '' } = vcpuParams(vm.config);
  return { ...Object.fromEntries(Object.entries(maps).map(([vcpu, cpus]) => [`cpumap${vcpu}`, cpus])), weight, cap };
}

export const vmMetrics = defineClass<{ readonly vm: Vm; readonly ref: string }>({
  name: 'VM_metrics',
  doc: 'How a machine is doing.',
  async all(world) {
    await world.manager.refresh();
    return world.manager.all().map((vm) => ({ vm, ref: refOf(world, vm) }));
  },
  async find(world, ref) {
    await world.manager.refresh();
    const vm = world.manager.all().find((candidate) => refOf(world, candidate) === ref);
    return vm && { vm, ref };
  },
  refOf: ({ ref }) => ref,
  fields: (
    [
      ro('memory_actual', 'int', (_, { live }) => (live?.info.nrPages ?? 0) * BYTES_PER_PAGE),
      ro('VCPUs_number', 'int', (_, { live }) => live?.info.nrOnlineVcpus ?? 0),
      ro('VCPUs_utilisation', 'struct', (world, vm) =>
        eachVcpu(world, vm, ({ cpuTimeNs }, vcpu, domid) => {
          const used = Number(cpuTimeNs) / NS_PER_S;
          return float(world.samples.rate(`vcpu ${domid} ${vcpu}`, used, world.now().getTime()));
        }),
      ),
      ro('VCPUs_CPU', 'map', (world, vm) => eachVcpu(world, vm, ({ cpu }) => String(cpu))),
      ro('VCPUs_flags', 'struct', (world, vm) => eachVcpu(world, vm, (info) => FLAGS.filter((flag) => info[flag]))),
      ro('VCPUs_params', 'map', paramsOf),
      ro('state', 'set', (_, { live }) => STATES.filter((state) => live?.info[state])),
      ro('start_time', 'datetime', (_, { live }) => new Date((live?.startTimeS ?? 0) * 1000)),
      ro('last_updated', 'datetime', (world) => world.now()),
    ] as const
  ).map(({ name, kind, get }) => ({ name, kind, get: (world, { vm }) => get(world, vm) })),
});
