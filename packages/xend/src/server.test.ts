import { decodeResponse, XmlRpcFault, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { methods } from './index.ts';
import { xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault, post } = host;

describe('the server', () => {
  it('answers introspection from the table', async () => {
    const listed = (await call('system.listMethods')) as string[];
    expect(listed).toEqual([...methods.keys()].sort());
    for (const name of listed) expect(JSON.stringify(await call('system.methodHelp', name)).length).toBeGreaterThan(10);
    expect(await call('system.methodSignature', 'xend.domain')).toEqual([['array', 'string'], ['array', 'string', 'boolean']]); // prettier-ignore
  });

  it('answers an unknown method with a struct, not a fault', async () => {
    expect(await call('xend.nothing')).toEqual({
      Status: 'Failure',
      ErrorDescription: ['MESSAGE_METHOD_UNKNOWN', 'xend.nothing'],
    });
  });

  it('faults wrong counts and types of arguments', async () => {
    expect(await fault('xend.domain')).toEqual([1, 'domain() takes at least 1 argument (0 given)']);
    expect(await fault('xend.domain.pause', 'a', false, 1)).toEqual([
      1,
      'domain_pause() takes at most 3 arguments (4 given)',
    ]);
    expect((await fault('xend.domain', { a: 1 }))[0]).toBe(1);
    expect((await fault('xend.domain.create', 'text'))[0]).toBe(1);
    expect((await fault('xend.domain.create', ['vm', [new Date(0)]]))[0]).toBe(1);
  });

  it('faults what is no XML-RPC, with status 200', async () => {
    for (const payload of ['', '{"jsonrpc":"2.0"}', '<methodCall>', '<a/>', 'x'.repeat(5 << 20)]) {
      const reply = await post(payload);
      expect([reply.statusCode, reply.headers['content-type']]).toEqual([200, 'text/xml']);
      expect(() => decodeResponse(reply.body)).toThrow(XmlRpcFault);
    }
  });

  it('sends a string result as the inside of its repr', async () => {
    host.xc.dmesg = "it's\n(XEN) \x1b[1mbold\n";
    expect(await call('xend.node.dmesg.info')).toBe(String.raw`it's\n(XEN) \x1b[1mbold\n`);
    await call('xend.node.dmesg.clear');
    expect(await call('xend.node.dmesg.info')).toBe('');
  });

  it('tells about the node in the order that people parse', async () => {
    const info = (await call('xend.node.info', 0)) as [string, XmlRpcValue][];
    expect(info.map(([key]) => key)).toEqual([
      'system', 'host', 'release', 'version', 'machine', 'nr_cpus', 'nr_nodes', 'cores_per_socket', 'threads_per_core',
      'cpu_mhz', 'hw_caps', 'virt_caps', 'total_memory', 'free_memory', 'free_cpus', 'xen_major', 'xen_minor', 'xen_extra',
      'xen_caps', 'xen_scheduler', 'xen_pagesize', 'platform_params', 'xen_changeset', 'xen_commandline', 'cc_compiler',
      'cc_compile_by', 'cc_compile_domain', 'cc_compile_date', 'xend_config_format',
    ]); // prettier-ignore
    expect(Object.fromEntries(info)).toMatchObject({
      total_memory: 256,
      hw_caps: 'bfebfbff:2c100800:00000000:00000040:77bae3ff:00000000:00000121:00000000',
      xen_caps: 'xen-3.0-x86_64 ',
      xen_scheduler: 'credit',
      platform_params: 'virt_start=0xffff800000000000',
      xend_config_format: 4,
    });
  });

  it('does not take the socket of one that lives', async () => {
    const other = host.newXend();
    await expect(other.start()).rejects.toThrow('another process answers there');
    await other.stop();
  });
});
