/** Callers that mean ill, or do not know what they do: the right fault each time, and no effect on anything. */
import { encodeCall, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { legacyMethods } from './rpc/legacy-methods.ts';
import { config, xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault, names, tree, post } = host;

/** Thousands of calls, on a machine that others use too. */
jest.setTimeout(120_000);

const LONG = 'x'.repeat(65_536);
const NAMES = ["a'b", 'a"b', 'a\nb', '(a)', 'a)(domid 0', '../../etc/passwd', '/', '.', '', ' ', 'ünï', LONG, '-1', '1e1', '0x0', '99999999999999999999']; // prettier-ignore
/** Values of every type that XML-RPC has, and what SXP cannot hold. */
const VALUES: readonly XmlRpcValue[] = [null, true, -1, 2 ** 31 - 1, '', 'x', [], [[]], {}, { a: [1] }, new Date(0), ['vm', ['name']], [null, [null]]]; // prettier-ignore

const takesDomain = legacyMethods.filter((row) => row.params[0]?.type === 'dom');

describe('hostile callers', () => {
  it('name domains that are none', async () => {
    const before = await tree('/');
    const LENIENT = new Set(['xend.domain.setpauseflag', 'xend.domain.getpauseflag', 'xend.domain.lookup_nr']);
    for (const row of takesDomain) {
      for (const name of NAMES) {
        const rest = row.params.slice(1).filter((param) => !('default' in param)).map((param): XmlRpcValue => FILLERS[param.type] ?? 'x'); // prettier-ignore
        const [code, text] = await fault(row.name, name, ...rest);
        const shown = [row.name, name.slice(0, 20), code];
        if (LENIENT.has(row.name)) expect(shown).toEqual([row.name, name.slice(0, 20), 0]);
        else if (row.name === 'xend.domain.resume' || row.name === 'xend.cpu_pool.migrate') expect(shown[2]).toBe(2);
        else expect([...shown, text]).toEqual([row.name, name.slice(0, 20), 3, name]);
      }
    }
    expect(await tree('/')).toEqual(before);
  });

  it('give wrong counts of arguments to every method', async () => {
    for (const row of legacyMethods) {
      const required = row.params.filter((param) => !('default' in param)).length;
      for (const count of [required - 1, row.params.length + 1].filter((n) => n >= 0)) {
        const [code, text] = await fault(row.name, ...Array.from({ length: count }, () => 'x'));
        expect([row.name, code, text]).toEqual([row.name, 1, expect.stringMatching(/^\S+\(\) takes .*argument/)]);
      }
    }
  });

  it('give values of wrong types to every parameter of every method', async () => {
    await call('xend.domain.create', config('g'));
    const before = await tree('/local/domain/0');
    // What these do with odd values is what they are for.
    const SAFE = (name: string) => !/\.(destroy|reset|shutdown|pause|unpause|clear|setName|delete)$/.test(name);
    for (const row of legacyMethods.filter(({ name }) => SAFE(name))) {
      for (const [index] of row.params.entries()) {
        for (const value of VALUES) {
          const args = row.params.slice(0, index + 1).map((param, at): XmlRpcValue => (at === index ? value : (FILLERS[param.type] ?? 'g'))); // prettier-ignore
          const [code, text] = await fault(row.name, ...args);
          expect([row.name, args, [0, 1, 2, 3].includes(code)]).toEqual([row.name, args, true]);
          // Never a bug of ours that a caller sees.
          expect(text).not.toMatch(/undefined|cannot read prop|is not a function|is not iterable|\[object/i);
        }
      }
    }
    expect(await names()).toEqual(['Domain-0', 'g']);
    expect(await tree('/local/domain/0')).toEqual(before);
  });

  it.each<[string, XmlRpcValue, RegExp]>([
    ...NAMES.filter((name) => !['', '.', '-1', '1e1', '0x0', '99999999999999999999'].includes(name)).map((name): [string, XmlRpcValue, RegExp] => [`a name of ${JSON.stringify(name.slice(0, 20))}`, config(name), /^Invalid VM Name$/]),
    ['a UUID that is a path', config('g', ['uuid', '../../../../tmp/x']), /^Invalid UUID: /],
    ['a device class that is a path', config('g', ['device', ['../x']]), /starts with its class/],
    ['a disk that is a path', config('g', ['device', ['vbd', ['uname', 'file:/x'], ['dev', '../../x']]]), /^Unable to find number/],
    ['a description too long to tell xenstore', config('g', ['description', LONG]), /too long/],
    ['a bridge too long to tell xenstore', config('g', ['device', ['vif', ['bridge', LONG]]]), /too long/],
    ['a command line too long', ['vm', ['name', 'g'], ['memory', 4], ['image', ['linux', ['kernel', '/boot/x'], ['args', LONG]]]], /too long/],
    ['a kernel with a NUL', ['vm', ['name', 'g'], ['memory', 4], ['image', ['linux', ['kernel', '/nowhere/x']]]], /does not exist/],
    ['cpus that are no numbers', config('g', ['cpus', [['x']]]), /not a list of CPUs/],
    ['cpus beyond all', config('g', ['cpus', '0-9999']), /not a list of CPUs/],
    ['memory without end', ['vm', ['name', 'g'], ['memory', '1e300']], /integer expected|at most/],
    ['more memory than any host', ['vm', ['name', 'g'], ['memory', 30_000_000]], /at most/],
    ['devices without end', config('g', ...Array.from({ length: 2000 }, (_, i): XmlRpcValue => ['device', ['vif', ['mac', `00:16:3e:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`]]])), /too many devices/],
  ])('create with %s', async (_, given, text) => {
    const before = await tree('/');
    const [code, message] = await fault('xend.domain.create', given);
    expect([code, message.slice(0, 200)]).toEqual([2, expect.stringMatching(text)]);
    expect([...host.xc.domains.keys()]).toEqual([0]);
    expect(await tree('/')).toEqual(before);
    expect((await fault('xend.domain.new', given))[0]).toBe(/kernel/.test(_) ? 0 : 2);
  }); // prettier-ignore

  it('create and destroy one name twenty times at once', async () => {
    const before = await tree('/');
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        if (i % 3 === 0) await call('xend.domains', true);
        return [await fault('xend.domain.create', config('g')), await fault('xend.domain.destroy', 'g')];
      }),
    );
    for (const [created, destroyed] of outcomes) {
      expect(created?.[0] === 0 || /^Domain 'g' already exists/.test(created?.[1] ?? '')).toBe(true);
      expect([0, 3]).toContain(destroyed?.[0]);
    }
    expect(outcomes.some(([created]) => created?.[0] === 0)).toBe(true);
    await fault('xend.domain.destroy', 'g');
    await host.xend.manager.settle();
    expect(await names()).toEqual(['Domain-0']);
    expect([...host.xc.domains.keys()]).toEqual([0]);
    expect(await tree('/')).toEqual(before);
    expect(host.xc.freePages).toBe(256 * 256);
  });

  it('start, destroy and delete one managed machine all at once', async () => {
    await call('xend.domain.new', config('m'));
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => fault(`xend.domain.${['start', 'destroy', 'delete', 'pause'][i % 4] ?? ''}`, 'm')),
    ); // prettier-ignore
    await fault('xend.domain.destroy', 'm');
    await fault('xend.domain.delete', 'm');
    await host.xend.manager.settle();
    expect(await names()).toEqual(['Domain-0']);
    expect([...host.xc.domains.keys()]).toEqual([0]);
  });

  it('that send no XML-RPC get a fault', async () => {
    for (const body of ['', '<', '<methodCall/>', encodeCall('x', []).slice(0, 40), '\0'.repeat(100)]) {
      expect((await post(body)).body).toContain('faultCode');
    }
  });
});

/** A value that a parameter of this type would take. */
const FILLERS: Readonly<Record<string, XmlRpcValue>> = {
  dom: 'g', string: 'x', optionalString: 'x', int: 1, optionalInt: 1, bool: true, optionalBool: false, names: ['x'],
  sxp: ['vbd', ['dev', 'xvda']], cpus: '0', any: 'x',
}; // prettier-ignore
