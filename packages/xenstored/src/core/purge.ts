/** Finding what a dead domain leaves in the tree (domain_tree_remove() of the C daemon), without walking all of it. */
import type { Account } from './accounts.ts';
import { TreeNode } from './tree.ts';

/** The topmost nodes that a domain owns, in the order of a walk of the tree. `/` is none of them. */
export function topmostOwned(account: Account): TreeNode[] {
  // For each node on the way to one of them: which of its children lead there.
  const ways = new Map<TreeNode, Set<TreeNode>>();
  const tops = new Set<TreeNode>();
  for (const owned of account.ownedNodes()) {
    if (!(owned instanceof TreeNode) || owned.parent === undefined) continue;
    let top: TreeNode = owned;
    for (let at: TreeNode = owned; at.parent !== undefined; at = at.parent) {
      if (at.perms.owner === account.domid) top = at;
    }
    tops.add(top);
  }
  let root: TreeNode | undefined;
  for (const top of tops) {
    for (let at: TreeNode = top; ; at = at.parent) {
      if (at.parent === undefined) {
        root = at;
        break;
      }
      const siblings = ways.get(at.parent);
      if (siblings) siblings.add(at);
      else ways.set(at.parent, new Set([at]));
    }
  }
  return root ? inOrder(root, ways, tops) : [];
}

function inOrder(
  root: TreeNode,
  ways: ReadonlyMap<TreeNode, ReadonlySet<TreeNode>>,
  tops: ReadonlySet<TreeNode>,
): TreeNode[] {
  const ordered: TreeNode[] = [];
  const left = [root];
  for (let node = left.pop(); node; node = left.pop()) {
    if (tops.has(node)) {
      ordered.push(node);
      continue;
    }
    const next = ways.get(node);
    if (next) left.push(...childrenInOrder(node, next).reverse());
  }
  return ordered;
}

function childrenInOrder(node: TreeNode, wanted: ReadonlySet<TreeNode>): TreeNode[] {
  if (wanted.size === 1) return [...wanted];
  const found: TreeNode[] = [];
  for (const child of node.children?.values() ?? []) {
    if (wanted.has(child) && found.push(child) === wanted.size) break;
  }
  return found;
}
