import { parseCommandLine } from './command-line.ts';

const parse = (text: string) => parseCommandLine(text.split(' ').filter((word) => word !== ''));

test('what xend of Xen 4.4 passes for a vfb', () => {
  expect(
    parse('-d 7 -domain-name web -videoram 4 -k de -vnc 127.0.0.1:0,password -vncunused -monitor vc -M xenpv'),
  ).toEqual({
    kind: 'xenpv',
    options: {
      domid: 7,
      name: 'web',
      videoramMiB: 4,
      keymap: 'de',
      vnc: {
        address: { kind: 'tcp', host: '127.0.0.1', display: 0, unused: true },
        password: true,
        webSocket: undefined,
      },
    },
    warnings: [],
  });
});

test.each([
  ['-vnc :3', { kind: 'tcp', host: '', display: 3, unused: false }, undefined],
  ['-vnc ::1:3', { kind: 'tcp', host: '::1', display: 3, unused: false }, undefined],
  ['-vnc [::1]:3,websocket', { kind: 'tcp', host: '::1', display: 3, unused: false }, 'display'],
  ['-vnc unix:/run/x,websocket=6080', { kind: 'unix', path: '/run/x' }, 6080],
  ['-vnc unix:/run/x:0', { kind: 'unix', path: '/run/x' }, undefined],
])('%s', (text, address, webSocket) => {
  expect(parse(`-M xenpv -d 1 ${text}`)).toMatchObject({ options: { name: 'Domain-1', vnc: { address, webSocket } } });
});

test('without a screen', () => {
  expect(parse('-M xenpv -d 1 -nographic')).toMatchObject({ options: { vnc: undefined }, warnings: [] });
  expect(parse('-M xenpv -d 1 -sdl')).toMatchObject({ warnings: [expect.stringContaining('-sdl')] });
});

test.each(['-d 1', '-M xenfv -d 1', ''])('another machine: %s', (text) => {
  expect(parse(text)).toEqual({ kind: 'otherMachine' });
});

test.each([
  ['', "-d wants a number up to 32751, not ''"],
  ['-d 0', '-d 0: Domain-0 has no framebuffer'],
  ['-d 99999', "-d wants a number up to 32751, not '99999'"],
  ['-d', 'option -d wants a value'],
  ['-d 1 -k xx', "no keymap 'xx'; there are en-us, en-gb, de, fr, es, it, pt, sv, fi, da, no"],
  ['-d 1 -vnc nowhere', '-vnc nowhere: not HOST:DISPLAY'],
  ['-d 1 -vnc :0,tls,x509=/etc', "-vnc :0,tls,x509=/etc: 'tls' is not supported here"],
  ['-d 1 -vnc :70000', "-vnc wants a number up to 59635, not '70000'"],
  ['-d 1 -boot d', 'invalid option -boot'],
  ['-d 1 x', 'invalid option x'],
])('wrong: %s', (text, reason) => {
  expect(parse(`-M xenpv ${text}`)).toEqual({ kind: 'wrong', reason });
});
