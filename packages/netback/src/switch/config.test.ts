import { parseNetworkConfig, readNetworkConfig } from './config.ts';
import { ipv4Text } from './ip.ts';

const parse = (text: string): ReturnType<typeof parseNetworkConfig> => parseNetworkConfig(text, '/etc/xen/network.sxp');

test('without a file there is xenbr0 with a way out through passt', () => {
  const config = readNetworkConfig(`${__dirname}/no-such-file.sxp`);
  expect(config).toMatchObject({ anyBridge: false, bridges: [{ name: 'xenbr0', antispoof: false, links: [] }] });
  const [uplink] = config.bridges[0]?.uplinks ?? [];
  if (uplink?.kind !== 'passt') throw new Error('no passt');
  expect([uplink.address, uplink.dns ?? 0, ...uplink.range].map(ipv4Text)).toEqual([
    '10.0.2.2',
    '10.0.2.3',
    '10.0.2.15',
    '10.0.2.254',
  ]);
  expect(uplink.hostLoopback).toEqual(new Set());
});

test('all that a file may say', () => {
  const config = parse(`
    # of this host
    (any-bridge yes)
    (bridge xenbr0
      (antispoof yes) (mac-age 60) (mac-limit 100) (storm-limit 10)
      (uplink passt (network 192.168.7.9/25) (address 192.168.7.1) (dns none) (resolver 9.9.9.9) (range 192.168.7.20 192.168.7.30)
        (mtu 9000) (host-loopback 80 443) (program /opt/passt)
        (forward tcp 2222 00:16:3e:00:00:01 22) (forward udp 0.0.0.0:53 192.168.7.20 5353))
      (link ab (listen 192.0.2.1:7) (peer "[fd00::1]:7") (secret-file s) (transit yes) (datagram-bytes 8000)))
    (bridge dmz (uplink tap (device tap7) (address 10.9.8.7/24) (master br0))
      (link cd (protocol tcp) (peer host.example:7788) (secret-file /s/t)))`);
  expect(config.anyBridge).toBe(true);
  expect(config.bridges).toMatchObject([
    {
      name: 'xenbr0',
      antispoof: true,
      macAgeMs: 60_000,
      maxMacs: 100,
      stormFramesPerSecond: 10,
      uplinks: [
        {
          kind: 'passt',
          program: '/opt/passt',
          network: { address: 0xc0a8_0700, bits: 25 },
          address: 0xc0a8_0701,
          dns: undefined,
          resolver: '9.9.9.9',
          range: [0xc0a8_0714, 0xc0a8_071e],
          mtu: 9000,
          hostLoopback: new Set([80, 443]),
          forwards: [
            { protocol: 'tcp', address: '127.0.0.1', port: 2222, to: { mac: 0x00163e000001 }, guestPort: 22 },
            { protocol: 'udp', address: '0.0.0.0', port: 53, to: { ip: 0xc0a8_0714 }, guestPort: 5353 },
          ],
        },
      ],
      links: [
        {
          name: 'ab',
          protocol: 'udp',
          listen: { host: '192.0.2.1', port: 7 },
          peer: { host: 'fd00::1', port: 7 },
          secretFile: '/etc/xen/s',
          transit: true,
          datagramBytes: 8000,
        },
      ],
    },
    {
      name: 'dmz',
      uplinks: [{ kind: 'tap', device: 'tap7', address: '10.9.8.7/24', master: 'br0' }],
      links: [{ name: 'cd', protocol: 'tcp', listen: undefined, secretFile: '/s/t', transit: false }],
    },
  ]);
});

test.each([
  ['', 'no (bridge NAME) in it'],
  ['(bridge', 'line 1'],
  ['\n(brigde x)', 'line 2: unknown key brigde: one of bridge, any-bridge'],
  ['(bridge)', 'not a name'],
  ['(bridge a/b)', 'not a name'],
  ['(bridge a)(bridge a)', 'two bridges have one name'],
  ['(bridge a (antispoof maybe))', 'antispoof: yes or no, not maybe'],
  ['(bridge a (antispoof yes) (antispoof no))', 'antispoof is given twice'],
  ['(bridge a (mac-age 0))', 'mac-age: a number from 1 to'],
  ['(bridge a (mac-age 1 2))', 'mac-age: expected one value'],
  ['(bridge a passt)', 'expected (KEY VALUE), not passt'],
  ['(bridge a (uplink slirp))', 'uplink: passt or tap, not slirp'],
  ['(bridge a (uplink passt)(uplink passt))', 'two passt uplinks on one bridge'],
  ['(bridge a (uplink passt (network 10.0.0.0/30)))', 'not a network of 8 to 27 bits'],
  ['(bridge a (uplink passt (network 10.0.300.0/24)))', 'not a network of 8 to 27 bits'],
  ['(bridge a (uplink passt (address 10.0.3.1)))', 'not an address in 10.0.2.0/24: 10.0.3.1'],
  ['(bridge a (uplink passt (range 10.0.2.9 10.0.2.8)))', 'the last address is below the first'],
  ['(bridge a (uplink passt (network 10.0.0.0/8) (range 10.1.0.0 10.2.0.0)))', 'range: more than 65536 addresses'],
  ['(bridge a (uplink passt (resolver localhost)))', 'not an IP address: localhost'],
  ['(bridge a (uplink passt (host-loopback some)))', 'not a port: some'],
  ['(bridge a (uplink passt (forward tcp 0 10.0.2.20 22)))', 'not a port: 0'],
  ['(bridge a (uplink passt (forward tcp 22 guest 22)))', 'neither a MAC nor an IPv4 address: guest'],
  ['(bridge a (uplink passt (forward sctp 22 10.0.2.20 22)))', 'expected (forward tcp|udp'],
  ['(bridge a (uplink passt (forward tcp name:22 10.0.2.20 22)))', 'not an IPv4 address: name'],
  ['(bridge a (uplink tap (address 10.0.0.1)))', "not an address with its network's bits"],
  ['(bridge a (link l (listen 1.1.1.1:1) (secret-file s)))', 'a UDP link wants listen and peer'],
  [
    '(bridge a (link l (protocol tcp) (listen 1.1.1.1:1) (peer 1.1.1.1:1) (secret-file s)))',
    'a TCP link wants listen at one',
  ],
  ['(bridge a (link l (listen 1.1.1.1:1) (peer 1.1.1.1:2)))', 'a link wants (secret-file FILE)'],
  ['(bridge a (link l (listen 1.1.1.1) (peer 1.1.1.1:2)))', 'expected HOST:PORT: 1.1.1.1'],
])('refused: %s', (text, message) => {
  expect(() => parse(text)).toThrow(message);
  expect(() => parse(text)).toThrow('/etc/xen/network.sxp');
});
