/** xm vcpu-list, vcpu-pin, vcpu-set. */
import { atomNumber, atomText, childValue, childrenOf, isList, type Sxp } from '@xenhost/sxp';
import { InvalidArgument } from '../errors.ts';
import { cpuRanges, format } from '../text.ts';
import { print } from '../world.ts';
import { listOf, numberOf, structOf, textOf } from '../xen-api/values.ts';
import type { XenApi } from '../xen-api/session.ts';
import type { CommandContext, Run } from './command.ts';
import { asSxp, asSxpList, printJson } from './domain-rows.ts';
import { wholeNumber } from './numbers.ts';

interface VcpuRow {
  readonly name: string;
  readonly domid: string;
  readonly vcpu: number;
  readonly cpu: string;
  readonly state: string;
  readonly timeS: number;
  readonly affinity: string;
}

export const vcpuList: Run = async (context, args) => {
  const { world, api } = context;
  const [infos, nrCpus] = api ? await apiInfos(api, args) : await legacyInfos(context, args);
  const rows = infos.flatMap((info) => vcpuRows(info, nrCpus));
  if (context.json) {
    return printJson(
      context,
      rows.map(({ timeS, ...row }) => ({
        ...row,
        domid: row.domid === '' ? null : Number(row.domid),
        cpu_time_s: timeS,
      })),
    );
  }
  print(world, format('%-32s %5s %5s %5s %5s %9s %s', 'Name', 'ID', 'VCPU', 'CPU', 'State', 'Time(s)', 'CPU Affinity'));
  for (const { name, domid, vcpu, cpu, state, timeS, affinity } of rows) {
    print(world, format('%-32s %5s %5d %5s %5s  %8.1f %s', name, domid, vcpu, cpu, state, timeS, affinity));
  }
  return undefined;
};

async function legacyInfos({ server }: CommandContext, args: readonly string[]): Promise<[Sxp[], number]> {
  const names = args.length > 0 ? args : asSxpList(await server.call('xend.domains_with_state', false, 'all', false));
  const infos: Sxp[] = [];
  for (const name of names) infos.push(asSxp(await server.call('xend.domain.getVCPUInfo', atomText(name) ?? '')));
  const node = asSxp(await server.call('xend.node.info'));
  return [infos, atomNumber(childValue(node, 'nr_cpus')) ?? 0];
}

/** The machines that run, in the shape of getVCPUInfo. */
async function apiInfos(api: XenApi, args: readonly string[]): Promise<[Sxp[], number]> {
  const refs: string[] = [];
  for (const name of args) refs.push(await api.vm(name));
  const infos: Sxp[] = [];
  for (const ref of args.length > 0 ? refs : await api.list('VM.get_all')) {
    const record = await api.record('VM.get_record', ref);
    if (record['power_state'] === 'Halted') continue;
    const metrics = await api.record('VM_metrics.get_record', textOf(record['metrics']));
    const of = (field: string, key: string): ReturnType<typeof structOf>[string] | undefined =>
      structOf(metrics[field])[key];
    const vcpus = Array.from({ length: numberOf(record['VCPUs_max']) }, (_, i): Sxp => {
      const flags = listOf(of('VCPUs_flags', String(i)));
      return [
        'vcpu',
        ['number', i],
        ...['online', 'blocked', 'running'].map((flag): Sxp => [flag, flags.includes(flag) ? 1 : 0]),
        ['cpu_time', String(numberOf(of('VCPUs_utilisation', String(i))))],
        ['cpu', textOf(of('VCPUs_CPU', String(i)))],
        ['cpumap', textOf(of('VCPUs_params', `cpumap${i}`)).split(',')],
      ];
    });
    infos.push(['domain', ['domid', textOf(record['domid'])], ['name', textOf(record['name_label'])], ...vcpus]);
  }
  return [infos, (await api.list('host.get_host_CPUs', await api.host())).length];
}

function vcpuRows(info: Sxp, nrCpus: number): VcpuRow[] {
  const name = atomText(childValue(info, 'name')) ?? '';
  const domid = atomText(childValue(info, 'domid')) ?? '';
  return childrenOf(info, 'vcpu').map((vcpu) => {
    const number = (key: string): number => atomNumber(childValue(vcpu, key)) ?? 0;
    const [cpu, state] = placeAndState(number('cpu'), number('online'), number('running'), number('blocked'));
    const map = childValue(vcpu, 'cpumap');
    const cpus = (isList(map) ? map : []).flatMap((item) => atomNumber(item) ?? []).filter((item) => item < nrCpus);
    const affinity = new Set(cpus).size === nrCpus ? 'any cpu' : cpuRanges(cpus);
    return { name, domid, vcpu: number('number'), cpu, state, timeS: number('cpu_time'), affinity };
  });
}

function placeAndState(cpu: number, online: number, running: number, blocked: number): [string, string] {
  if (cpu < 0) return ['', ''];
  if (!online) return ['-', '--p'];
  return [String(cpu), `${running ? 'r' : '-'}${blocked ? 'b' : '-'}-`];
}

/** What `all` stands for. */
const ALL_CPUS = '0-63';

/** "0-3,^1" as "0,2,3". Throws InvalidArgument. */
function cpuListText(text: string): string {
  let cpus: number[] = [];
  for (const word of (text === 'all' ? ALL_CPUS : text).split(',')) {
    if (word === '') continue;
    const match = /^(\^?)(\d{1,5})(?:-(\d{1,5}))?$/.exec(word);
    if (!match) throw new InvalidArgument();
    const first = Number(match[2]);
    const last = Number(match[3] ?? first);
    if (match[1] === '^') cpus = cpus.filter((cpu) => cpu < first || cpu > last);
    else for (let cpu = first; cpu <= last; cpu += 1) cpus.push(cpu);
  }
  return cpus.sort((a, b) => a - b).join(',');
}

export const vcpuPin: Run = async ({ server, api }, [dom = '', vcpu = '', cpus = '']) => {
  const list = cpuListText(cpus);
  if (api) {
    await api.call('VM.add_to_VCPUs_params_live', await api.vm(dom), `cpumap${wholeNumber(vcpu)}`, list);
  } else {
    await server.call('xend.domain.pincpu', dom, vcpu, list);
  }
  return undefined;
};

export const vcpuSet: Run = async ({ server, api }, [dom = '', count = '']) => {
  const vcpus = wholeNumber(count);
  if (api) await api.call('VM.set_VCPUs_number_live', await api.vm(dom), vcpus);
  else await server.call('xend.domain.setVCpuCount', dom, vcpus);
  return undefined;
};
