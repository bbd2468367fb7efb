/** xm top in batch mode and on a screen; the line that moves. */
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { float } from '@xenhost/sxp';
import { runXm } from '../cli.ts';
import { fileSize, progressLine, withProgress } from '../progress.ts';
import { FakeXend } from '../testing/fake-xend.ts';
import { inWorld, type Outcome } from '../testing/fake-world.ts';
import type { World } from '../world.ts';
import { afterKey } from './command.ts';
import { clipped } from './screen.ts';

let directory: string;
let xend: FakeXend;
let nowMs: number;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
  xend = new FakeXend(join(directory, 's'));
  await xend.start();
  nowMs = new Date(2023, 10, 14, 12, 34, 56).getTime();
  let seconds = 0;
  const domain = (name: string, domid: number, state: string, memory: number, maxmem: number, cpuTime: number) =>
    ['domain', ['domid', domid], ['name', name], ['memory', memory], ['maxmem', maxmem], ['state', state], ['cpu_time', float(cpuTime)], ['online_vcpus', 2], ['device', ['vif', ['mac', 'x']]], ['device', ['tap', ['uname', 'u']]]] as const; // prettier-ignore
  xend.answers = {
    'xend.node.info': [['system', 'Linux'], ['nr_cpus', 2], ['cpu_mhz', 2400], ['total_memory', 1024], ['free_memory', 256], ['xen_major', 4], ['xen_minor', 17], ['xen_extra', '.0']],
    'xend.domains_with_state': () => {
      seconds += 1;
      return [domain('Domain-0', 0, 'r-----', 512, 16_777_215, 10 + seconds), domain('a-very-long-name', 3, '-b----', 64, 128, 5), ['domain', ['name', 'halted']]];
    },
    'xend.domain.getVCPUInfo': ['domain', ['vcpu', ['number', 0], ['online', 1], ['cpu_time', float(7.9)]], ['vcpu', ['number', 1], ['online', 0]]],
  }; // prettier-ignore
});

afterEach(async () => {
  await xend.stop();
  rmSync(directory, { recursive: true, force: true });
});

function xm(line: readonly string[], world: Partial<World> = {}): Promise<Outcome> {
  return inWorld((made) => runXm(line, made), {
    env: { XM_SERVER: `httpu://${xend.socketPath}` },
    cwd: directory,
    now: () => new Date(nowMs),
    sleep: (ms) => {
      nowMs += ms;
      return Promise.resolve();
    },
    ...world,
  });
}

const HEADER =
  '      NAME  STATE   CPU(sec) CPU(%)     MEM(k) MEM(%)  MAXMEM(k) MAXMEM(%) VCPUS NETS NETTX(k) NETRX(k) VBDS   VBD_OO   VBD_RD   VBD_WR  VBD_RSECT  VBD_WSECT SSID\n';
const REST = '    1        0        0    1        0        0        0          0          0    0\n';

describe('batch mode', () => {
  it("has xentop's columns, and percentages from the second view on", async () => {
    const { code, out, err } = await xm(['top', '-b', '-i', '2', '-d', '2']);
    expect([code, err]).toEqual([0, '']);
    expect(out).toBe(
      `${HEADER}a-very-lon --b---          5    0.0      65536    6.2     131072      12.5     2${REST}` +
        `  Domain-0 -----r         11    0.0     524288   50.0   no limit       n/a     2${REST}` +
        `${HEADER}a-very-lon --b---          5    0.0      65536    6.2     131072      12.5     2${REST}` +
        `  Domain-0 -----r         12   50.0     524288   50.0   no limit       n/a     2${REST}`,
    );
  });

  it('shows more of each domain', async () => {
    const { out } = await xm(['top', '-b', '-i1', '-vnxrf']);
    expect(out.split(HEADER)).toHaveLength(3);
    expect(out).toContain('a-very-long-name --b---');
    expect(out).toContain('VCPUs(sec):   0:          7s\n');
    expect(out).toContain('Net0 RX:        0bytes        0pkts        0err        0drop  TX:        0bytes');
    expect(out).toContain('VBD BlkTap    0 [ 0: 0]  OO:        0   RD:        0');
  });

  it('shows what the backends of this host count', async () => {
    const counted = (device: string, counters: Readonly<Record<string, number>>): void => {
      const folder = join(directory, 'sys', device, 'statistics');
      mkdirSync(folder, { recursive: true });
      for (const [name, value] of Object.entries(counters)) writeFileSync(join(folder, name), `${value}\n`);
    };
    counted('class/net/vif3.1', { rx_bytes: 5000, rx_packets: 4, rx_errors: 3, rx_dropped: 2, tx_bytes: 2048 });
    counted('class/net/vif3.0', { rx_bytes: 1024, tx_packets: 7 });
    counted('class/net/xenbr0', { rx_bytes: 1 });
    counted('bus/xen-backend/devices/vbd-3-51712', { oo_req: 1, rd_req: 22, wr_req: 333, rd_sect: 4444, wr_sect: 5 });
    counted('bus/xen-backend/devices/tap-3-832', { rd_req: 1, wr_sect: 10 });
    const { code, out, err } = await xm(['top', '-b', '-i1', '-nx'], {
      env: { XM_SERVER: `httpu://${xend.socketPath}`, XENHOST_RUN: directory },
    });
    expect([code, err]).toEqual([0, '']);
    expect(out).toBe(
      `${HEADER}a-very-lon --b---          5    0.0      65536    6.2     131072      12.5     2    2        2        5    2        1       23      333       4444         15    0\n` +
        'Net0 RX:     1024bytes        0pkts        0err        0drop  TX:        0bytes        7pkts        0err        0drop\n' +
        'Net1 RX:     5000bytes        4pkts        3err        2drop  TX:     2048bytes        0pkts        0err        0drop\n' +
        'VBD BlkTap  832 [ 3:40]  OO:        0   RD:        1   WR:        0   RSECT:          0   WSECT:         10\n' +
        'VBD BlkBack 51712 [ca: 0]  OO:        1   RD:       22   WR:      333   RSECT:       4444   WSECT:          5\n' +
        `  Domain-0 -----r         11    0.0     524288   50.0   no limit       n/a     2${REST}` +
        'Net0 RX:        0bytes        0pkts        0err        0drop  TX:        0bytes        0pkts        0err        0drop\n' +
        'VBD BlkTap    0 [ 0: 0]  OO:        0   RD:        0   WR:        0   RSECT:          0   WSECT:          0\n',
    );
  });

  it('wants a terminal otherwise, and numbers where it wants numbers', async () => {
    expect((await xm(['top'])).err).toBe('Error: xm top wants a terminal: use -b where there is none\n');
    expect((await xm(['top', '-b', '-i', 'x'])).err).toBe('Error: --iterations wants a number, not x\n');
    expect((await xm(['top', '-V'])).out).toBe('xentop 1.0\n');
  });
});

describe('the screen', () => {
  it('shows a summary, obeys keys and leaves the terminal as it was', async () => {
    const stdin = Object.assign(new PassThrough(), { isTTY: true, setRawMode: jest.fn() });
    const running = xm(['top'], { stdin, terminal: () => ({ columns: 100, rows: 12 }) });
    for (const key of ['n', '\x1b[B', 'd', '5', '\r', 'q']) stdin.write(key);
    const { code, out } = await running;
    expect(code).toBe(0);
    expect(stdin.setRawMode.mock.calls).toEqual([[true], [false]]);
    expect(out.startsWith('\x1b[?1049h\x1b[?25l')).toBe(true);
    expect(out.endsWith('\x1b[?25h\x1b[?1049l')).toBe(true);
    // eslint-disable-next-line no-control-regex -- escape sequences are taken away
    const plain = out.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '');
    expect(plain).toContain('xentop - 12:34:56   Xen 4.17.0\r\n');
    expect(plain).toContain('2 domains: 1 running, 1 blocked, 0 paused, 0 crashed, 0 dying, 0 shutdown \r\n');
    expect(plain).toContain('Mem: 1048576k total, 786432k used, 262144k free    CPUs: 2 @ 2400MHz\r\n');
    expect(plain).toContain('Delay(sec): 5');
    for (const line of plain.split(/\r\n/)) expect(line.length).toBeLessThan(2 * 100);
  });

  it('changes by keys', () => {
    const start = { networks: false, vbds: false, vcpus: false, repeatHeader: false, sort: 18, first: 0 };
    expect(afterKey(start, 's').sort).toBe(0);
    expect(afterKey(start, 'up').first).toBe(0);
    expect(afterKey(start, 'down').first).toBe(1);
    expect(afterKey(start, 'b').vbds).toBe(true);
    expect(afterKey(start, 'r').repeatHeader).toBe(true);
    expect(afterKey(start, 'x')).toBe(start);
    expect(clipped('\x1b[1mabc\x1b[0mdef', 4)).toBe('\x1b[1mabc\x1b[0md');
  });
});

describe('progress', () => {
  it('is a bar where the size is known', () => {
    expect(progressLine('Saving a', 0.5, 3.2, 80)).toBe('Saving a  [==============>               ]  50%  3 s');
    expect(progressLine('Saving a', 2, 3.2, 80)).toContain('] 100%');
    expect(progressLine('Migrating', undefined, 0.4, 80)).toBe('Migrating  [  <=>                         ]  0 s');
    expect(progressLine('x'.repeat(99), 0, 0, 40)).toHaveLength(39);
  });

  it('is silent without a terminal, and for short work', async () => {
    const quick = (terminal: boolean): Promise<Outcome> =>
      inWorld(
        (world) => withProgress(world, 'Working', {}, () => Promise.resolve(0)),
        { env: {}, cwd: '/', terminal: () => (terminal ? { columns: 80, rows: 24 } : undefined) },
      ); // prettier-ignore
    expect((await quick(false)).out).toBe('');
    expect((await quick(true)).out).toBe('');
  });

  it('moves, and is gone at the end', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate'] });
    try {
      let finish: (value: number) => void = () => undefined;
      const working = inWorld(
        (world) =>
          withProgress(world, 'Saving a', { size: () => Promise.resolve(100), done: () => Promise.resolve(42) }, () =>
            new Promise<number>((resolve) => { finish = resolve; }),
          ),
        { env: {}, cwd: '/', now: () => new Date(), terminal: () => ({ columns: 80, rows: 24 }) },
      ); // prettier-ignore
      await jest.advanceTimersByTimeAsync(1100);
      finish(0);
      const { out } = await working;
      expect(out).toContain('\r\x1b[KSaving a  [===========>                  ]  42%  0 s');
      expect(out.endsWith('\r\x1b[K')).toBe(true);
    } finally {
      jest.useRealTimers();
    }
  });
});

test('a file that is not there yet, or cannot be, has no bytes', async () => {
  const here = fileURLToPath(import.meta.url);
  expect(await fileSize(here)()).toBe(statSync(here).size);
  expect(await fileSize(`${here}.missing`)()).toBe(0);
  expect(await fileSize(`${here}/below a file`)()).toBe(0);
});
