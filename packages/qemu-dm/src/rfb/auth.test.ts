import { challengeResponse, isRightResponse, newChallenge } from './auth.ts';

test('DES as it always was: a known answer', () => {
  // The key of FIPS 46's example, with the bits of each byte mirrored as VNC takes them.
  const key = Buffer.from('0123456789abcdef', 'hex').map((byte) => parseInt(byte.toString(2).padStart(8, '0').split('').reverse().join(''), 2)); // prettier-ignore
  const challenge = Buffer.from('4e6f7720697320744e6f772069732074', 'hex');
  const response = challengeResponse(Buffer.from(key).toString('latin1'), challenge);
  expect(response.toString('hex')).toBe('3fa40e8a984d48153fa40e8a984d4815');
});

test('eight characters count', () => {
  const challenge = newChallenge();
  expect(isRightResponse('password', challenge, challengeResponse('password and more', challenge))).toBe(true);
  expect(isRightResponse('password', challenge, challengeResponse('passwors', challenge))).toBe(false);
  expect(isRightResponse('password', challenge, Buffer.alloc(3))).toBe(false);
});
