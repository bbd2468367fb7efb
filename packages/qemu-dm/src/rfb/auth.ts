/**
 * VNC authentication (RFC 6143, 7.2.2): a challenge encrypted with DES under the password. Only its first eight bytes count, and
 * nothing of the connection is protected afterwards.
 */
import { createCipheriv, randomBytes, timingSafeEqual } from 'node:crypto';

export const CHALLENGE_BYTES = 16;
const KEY_BYTES = 8;

export const newChallenge = (): Buffer => randomBytes(CHALLENGE_BYTES);

/** What a client that knows the password answers. */
export function challengeResponse(password: string, challenge: Uint8Array): Buffer {
  const key = Buffer.alloc(KEY_BYTES);
  key.set(Buffer.from(password, 'latin1').subarray(0, KEY_BYTES));
  for (const [i, byte] of key.entries()) key[i] = mirrored(byte);
  // OpenSSL has no single DES; three rounds with one key are that.
  const cipher = createCipheriv('des-ede3-ecb', Buffer.concat([key, key, key]), null).setAutoPadding(false);
  return Buffer.concat([cipher.update(challenge), cipher.final()]);
}

export function isRightResponse(password: string, challenge: Uint8Array, response: Uint8Array): boolean {
  const expected = challengeResponse(password, challenge);
  return response.length === expected.length && timingSafeEqual(expected, response);
}

/** VNC takes the bits of each byte of the key from the other end. */
function mirrored(byte: number): number {
  let result = 0;
  for (let bit = 0; bit < 8; bit++) result |= ((byte >> bit) & 1) << (7 - bit);
  return result;
}
