import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError, parseConfig, readConfig } from './config.ts';
import { hostAllowed } from './hosts.ts';

const places = { state: '/var/lib/xend', logFile: '/var/log/xen/xend.log' };
const read = (content: string) => parseConfig(content, '/etc/xen/xend-config.sxp', places);

/** The rows that Xen 4.4's own example file leaves switched on. */
const SHIPPED = String.raw`# -*- sh -*-
(xend-relocation-server yes)
(xend-relocation-hosts-allow '^localhost$ ^localhost\\.localdomain$')
(network-script network-bridge)
(vif-script vif-bridge)
(dom0-min-mem 196)
(enable-dom0-ballooning yes)
(total_available_memory 0)
(dom0-cpus 0)
(vncpasswd '')
`;

it('knows the defaults of Xen 4.4', () => {
  const { config, warnings } = read('');
  expect(warnings).toEqual([]);
  expect(config).toMatchObject({
    logfile: '/var/log/xen/xend.log',
    'xend-http-server': false,
    'xend-port': 8000,
    'xend-unix-server': false,
    'xend-unix-path': '/var/lib/xend/xend-socket',
    'xend-tcp-xmlrpc-server': false,
    'xend-tcp-xmlrpc-server-address': 'localhost',
    'xend-tcp-xmlrpc-server-port': 8006,
    'xend-unix-xmlrpc-server': true,
    'xend-relocation-server': false,
    'xend-relocation-port': 8002,
    'xend-relocation-ssl-port': 8003,
    'xen-api-server': [{ address: 'unix', auth: 'none', hosts: undefined, tls: undefined }],
    'pscsi-device-mask': ['*'],
    'device-create-timeout': 100,
    'xend-domains-path': '/var/lib/xend/domains',
    'enable-dom0-ballooning': false,
    'vnc-x509-cert-dir': '/etc/xen/vnc',
  });
});

it('reads the file that Xen 4.4 came with', () => {
  const { config, warnings } = read(SHIPPED);
  expect(warnings).toEqual([]);
  expect(config).toMatchObject({
    'xend-relocation-server': true,
    'xend-relocation-hosts-allow': String.raw`^localhost$ ^localhost\.localdomain$`,
    'dom0-min-mem': 196,
    'enable-dom0-ballooning': true,
    'network-script': 'network-bridge',
  });
});

it('reads the list of Xen-API servers', () => {
  const { config } = read(String.raw`(xen-api-server ((9363 pam '^localhost$ .*\\.example\\.com$')
    (unix none) (9367 '' '' xen-api.key /x/xen-api.crt) (localhost:1) (UNIX) ('[::1]:2' none)))`);
  expect(config['xen-api-server']).toEqual([
    { address: { host: undefined, port: 9363 }, auth: 'pam', hosts: [/^(?:^localhost$)/, /^(?:.*\.example\.com$)/], tls: undefined },
    { address: 'unix', auth: 'none', hosts: undefined, tls: undefined },
    {
      address: { host: undefined, port: 9367 }, auth: 'pam', hosts: undefined,
      tls: { keyFile: '/etc/xen/xen-api.key', certFile: '/x/xen-api.crt' },
    },
    { address: { host: 'localhost', port: 1 }, auth: 'pam', hosts: undefined, tls: undefined },
    { address: 'unix', auth: 'none', hosts: undefined, tls: undefined },
    { address: { host: '::1', port: 2 }, auth: 'none', hosts: undefined, tls: undefined },
  ]); // prettier-ignore
});

it('takes the first row of a key and warns of what it does not know', () => {
  const { config, warnings } = read('(xend-port 1)\n(xend-port 2)\n(xend-prot 3) stray\n(enable-dom0-ballooning no)');
  expect(config['xend-port']).toBe(1);
  expect(warnings).toEqual([
    '/etc/xen/xend-config.sxp: line 2: xend-port was given before; the first one counts',
    '/etc/xen/xend-config.sxp: line 3: unknown key xend-prot',
    '/etc/xen/xend-config.sxp: ignored what is no (KEY VALUE): stray',
  ]);
});

it.each([
  ['\n(xend-http-server maybe)', 'line 2: invalid xend config xend-http-server: expected bool: maybe'],
  ['(xend-port http)', 'line 1: invalid xend config xend-port: expected int: http'],
  ['(xend-port -1)', 'line 1: invalid xend config xend-port: expected int: -1'],
  ['(xend-port 65536)', 'line 1: invalid xend config xend-port: expected an int up to 65535: 65536'],
  ['(vncpasswd)', 'line 1: invalid xend config vncpasswd: expected one value'],
  ['(vncpasswd a b)', 'line 1: invalid xend config vncpasswd: expected one value'],
  ['(xen-api-server\n ((unix)\n  (9363 ldap)))', 'line 3: invalid xend config xen-api-server: expected pam or none: ldap'],
  ['(xen-api-server (unix))', 'line 1: invalid xend config xen-api-server: expected (ADDRESS AUTH HOSTS KEY CERT)'],
  ['(xen-api-server unix)', 'line 1: invalid xend config xen-api-server: expected a list of servers'],
  ['(xen-api-server ((9363 pam "(")))', 'line 1: invalid xend config xen-api-server: not a regular expression: ('],
  ['(xen-api-server ((9363 pam "" k)))', 'expected a key and a certificate, not one of them'],
  ['(xen-api-server ((unix pam "" k c)))', 'a Unix socket has no TLS'],
  ['(xen-api-server ((a:b:1)))', 'expected PORT or HOST:PORT: a:b:1'],
  ['(xen-api-server ((70000)))', 'expected PORT or HOST:PORT: 70000'],
  ['(pscsi-device-mask x)', 'line 1: invalid xend config pscsi-device-mask: expected a list'],
  ['\n\n(xend-port 1', '/etc/xen/xend-config.sxp: unexpected EOF (line 3)'],
])('refuses %j', (content, message) => {
  expect(() => read(content)).toThrow(ConfigError);
  expect(() => read(content)).toThrow(message);
}); // prettier-ignore

it('reads a file, and says which one is not there', () => {
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  const file = join(directory, 'c.sxp');
  expect(() => readConfig(file, places)).toThrow(`cannot read ${file}`);
  writeFileSync(file, '(xend-tcp-xmlrpc-server-ssl-key-file xmlrpc.key)');
  const key = readConfig(file, places).config['xend-tcp-xmlrpc-server-ssl-key-file'];
  expect(key).toBe(join(directory, 'xmlrpc.key'));
  expect(readConfig(undefined, places).config.logfile).toBe(places.logFile);
  rmSync(directory, { recursive: true });
});

describe('hosts', () => {
  const allowed = (patterns: string, address: string, name = 'a.example.com') =>
    hostAllowed(read(`(xen-api-server ((1 pam '${patterns}')))`).config['xen-api-server'][0]?.hosts, address, () =>
      Promise.resolve(name),
    );
  it.each([
    ['', '1.2.3.4', true],
    ['^1\\\\.2', '1.2.3.4', true],
    ['1.2', '::ffff:1.2.3.4', true],
    ['2.3', '1.2.3.4', false],
    ['^localhost$ .*\\\\.example\\\\.com$', '1.2.3.4', true],
    ['^example', '1.2.3.4', false],
  ])('%j lets %s in: %s', async (patterns, address, expected) => {
    expect(await allowed(patterns, address)).toBe(expected);
  });

  it('asks for no name where the address tells', async () => {
    const lookup = jest.fn();
    expect(await hostAllowed([/^1/], '1.2.3.4', lookup)).toBe(true);
    expect(await hostAllowed([/^1/], undefined, lookup)).toBe(false);
    expect(lookup).not.toHaveBeenCalled();
  });
});
