/** The API page, docs/XEND-API.md, as the table of methods makes it. */
import type { Method, Param } from './method.ts';

const HEAD = `# xend's own XML-RPC methods

Generated from the table of methods in \`packages/xend/src/rpc\`; \`UPDATE_DOCS=1 npm run unit\` writes it anew. These are the
methods of Xen 4.4's legacy interface; the Xen-API is another one. \`dom\` is a name, an id or a UUID; \`sxp\` is a nested
array whose first element is its tag. Every method may end with fault 1 (wrong arguments, or what nobody expected).
`;

/** Markdown: one table for each group of methods, sorted by name. */
export function apiPage(methods: Iterable<Method>): string {
  const groups = new Map<string, Method[]>();
  for (const row of [...methods].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const group = /^xend\.domains?(?:\.|_|$)/.test(row.name) ? 'xend.domain' : row.name.replace(/\.[^.]*$/, '');
    groups.set(group, [...(groups.get(group) ?? []), row]);
  }
  const sections = [...groups].map(([group, rows]) =>
    [
      `## ${group}`,
      '',
      '| method | parameters | result | faults | what it does |',
      '| --- | --- | --- | --- | --- |',
      ...rows.map((row) => `| ${[row.name, parameters(row.params), row.returns, row.faults.join(', '), row.doc].map(cell).join(' | ')} |`), // prettier-ignore
    ].join('\n'),
  );
  return `${[HEAD, ...sections].join('\n')}\n`.replaceAll('\n## ', '\n\n## ').replaceAll('\n\n\n', '\n\n');
}

const cell = (text: string): string => text.replaceAll('|', '\\|');

const parameters = (params: readonly Param[]): string =>
  params
    .map((param) => {
      const type = param.type.replace(/^optional./, (word) => word.slice(-1).toLowerCase());
      const value =
        'default' in param ? ` = ${param.default === undefined ? 'nil' : JSON.stringify(param.default)}` : '';
      return `${param.name}: ${type}${value}`;
    })
    .join(', ');
