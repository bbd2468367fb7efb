/** xm vcpu-list, vcpu-pin, vcpu-set. */
import { atomNumber, atomText, childValue, childrenOf, isList, type Sxp } from '@xenhost/sxp';
import { InvalidArgument } from '../errors.ts';
import { cpuRanges, format } from '../text.ts';
import { print } from '../world.ts';
import type { Run } from './command.ts';
import { wholeNumber } from './domain.ts';
import { asSxp, asSxpList } from './domain-rows.ts';

export const vcpuList: Run = async ({ world, server }, args) => {
  const names = args.length > 0 ? args : asSxpList(await server.call('xend.domains_with_state', false, 'all', false));
  const infos: Sxp[] = [];
  for (const name of names) infos.push(asSxp(await server.call('xend.domain.getVCPUInfo', atomText(name) ?? '')));
  const node = asSxp(await server.call('xend.node.info', 0));
  const nrCpus = atomNumber(childValue(node, 'nr_cpus')) ?? 0;
  print(world, format('%-32s %5s %5s %5s %5s %9s %s', 'Name', 'ID', 'VCPU', 'CPU', 'State', 'Time(s)', 'CPU Affinity'));
  for (const info of infos) {
    const name = atomText(childValue(info, 'name')) ?? '';
    const domid = atomText(childValue(info, 'domid')) ?? '';
    for (const vcpu of childrenOf(info, 'vcpu')) {
      const number = (key: string): number => atomNumber(childValue(vcpu, key)) ?? 0;
      const [cpu, state] = placeAndState(number('cpu'), number('online'), number('running'), number('blocked'));
      const map = childValue(vcpu, 'cpumap');
      const cpus = (isList(map) ? map : []).flatMap((item) => atomNumber(item) ?? []).filter((item) => item < nrCpus);
      const affinity = new Set(cpus).size === nrCpus ? 'any cpu' : cpuRanges(cpus);
      print(
        world,
        format(
          '%-32s %5s %5d %5s %5s  %8.1f %s',
          name,
          domid,
          number('number'),
          cpu,
          state,
          number('cpu_time'),
          affinity,
        ),
      );
    }
  }
  return undefined;
};

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

export const vcpuPin: Run = async ({ server }, [dom = '', vcpu = '', cpus = '']) => {
  if (vcpu.toLowerCase() !== 'all') wholeNumber(vcpu);
  await server.call('xend.domain.pincpu', dom, vcpu, cpuListText(cpus));
  return undefined;
};

export const vcpuSet: Run = async ({ server }, [dom = '', count = '']) => {
  await server.call('xend.domain.setVCpuCount', dom, wholeNumber(count));
  return undefined;
};
