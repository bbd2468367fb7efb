import { mergeMetrics } from './metrics.ts';

test('texts of several daemons become one', () => {
  const a = '# TYPE a counter\n# HELP a One.\na_total{x="1"} 1\n# TYPE up gauge\n# HELP up U.\nup{d="a"} 1\n# EOF\n';
  const b = '# TYPE up gauge\n# HELP up U.\nup{d="b"} 0\n# TYPE b gauge\n# HELP b Two.\nb 2\n# EOF\n';
  expect(mergeMetrics([a, b])).toBe(
    '# TYPE a counter\n# HELP a One.\na_total{x="1"} 1\n' +
      '# TYPE up gauge\n# HELP up U.\nup{d="a"} 1\nup{d="b"} 0\n' +
      '# TYPE b gauge\n# HELP b Two.\nb 2\n# EOF\n',
  );
  expect(mergeMetrics([])).toBe('# EOF\n');
});
