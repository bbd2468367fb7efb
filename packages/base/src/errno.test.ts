import { Errno, errnoName, strerror, XenError } from './errno.ts';

test('names and texts of either sign; unknown numbers keep their number', () => {
  expect(errnoName(-22)).toBe('EINVAL');
  expect(strerror(3)).toBe('No such process');
  expect(errnoName(4000)).toBe('E4000');
});

test('an error carries the positive number, the name and what was being done', () => {
  const error = new XenError(-Errno.ENOMEM, 'xc_domain_create');
  expect(error.errno).toBe(12);
  expect(error.code).toBe('ENOMEM');
  expect(error.message).toBe('xc_domain_create: Cannot allocate memory');
});
