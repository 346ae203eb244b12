/** The tree of commands as data: what completion scripts and the man page are made from. */
import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { guestImages } from '#guest-images/manifest';
import { machineKeys } from '#vmm/config/keys';
import { verbs } from '#vmm/control/verbs';
import { catalogue } from '#vmm/record/catalogue';

export interface Word {
  readonly word: string;
  readonly doc: string;
}
/** What may stand at one place. */
export interface Values {
  readonly words: readonly Word[];
  readonly files: boolean;
}
export interface CommandNode {
  /** Names from the root: empty, `config`, `config print`. */
  readonly path: readonly string[];
  readonly command: CommandUnknownOpts;
  readonly options: readonly (Values & {
    readonly long: string | undefined;
    readonly short: string | undefined;
    readonly doc: string;
    readonly takesValue: boolean;
  })[];
  /** Of all its arguments together. */
  readonly positional: Values;
  readonly children: readonly CommandNode[];
}

const plain = (words: readonly string[]): Word[] => words.map((word) => ({ word, doc: '' }));
const nothing: Values = { words: [], files: false };

/** Placeholders whose values are not spelled out in them. */
const sources: Readonly<Record<string, () => Values>> = {
  path: () => ({ words: [], files: true }),
  file: () => ({ words: [], files: true }),
  guest: () => ({ words: guestImages.map(({ name, proves }) => ({ word: name, doc: proves })), files: true }),
  glob: () => ({ words: [...catalogue].map(([name, { doc }]) => ({ word: name, doc })), files: false }),
  verb: () => ({ words: Object.entries(verbs).map(([word, { doc }]) => ({ word, doc })), files: false }),
  point: () => ({ words: plain(['end']), files: false }),
};

/** `s|m` spells its values out; of `key=value,…` the key that may be omitted counts. */
function valuesOf(placeholder: string, name: string): Values {
  const source = Object.hasOwn(sources, placeholder) ? sources[placeholder] : undefined;
  if (source) return source();
  if (/^[\w-]+(?:\|[\w-]+)*$/.test(placeholder) && placeholder.includes('|'))
    return { words: plain(placeholder.split('|')), files: false };
  if (!placeholder.startsWith('key=')) return nothing;
  const key = machineKeys.find((one) => one.name === name || one.name === `${name}s`);
  const shape = key?.shape.kind === 'list' ? key.shape.item : key?.shape;
  const first = shape?.kind === 'group' ? shape.keys[0]?.shape : undefined;
  return first?.kind === 'scalar' ? valuesOf(first.facts.placeholder, '') : nothing;
}

export function commandTree(command: CommandUnknownOpts, path: readonly string[] = []): CommandNode {
  const help = { flags: '-h, --help', long: '--help', short: '-h', description: 'display help for command', argChoices: undefined }; // prettier-ignore
  const options = [...command.options, help].map(({ flags, long, short, description, argChoices }) => {
    const placeholder = /[<[](.+)[>\]]$/.exec(flags)?.[1];
    const name = (long ?? '').replace(/^--/, '');
    const values = argChoices
      ? { words: plain(argChoices), files: false }
      : placeholder === undefined
        ? nothing
        : valuesOf(placeholder, name);
    return { long, short, doc: description, takesValue: placeholder !== undefined, ...values };
  });
  const args = command.registeredArguments.map((argument) =>
    argument.argChoices ? { words: plain(argument.argChoices), files: false } : valuesOf(argument.name(), ''),
  );
  return {
    path,
    command,
    options,
    positional: { words: args.flatMap(({ words }) => words), files: args.some(({ files }) => files) },
    children: command.commands.map((child) => commandTree(child, [...path, child.name()])),
  };
}

/** A node and all below it. */
export const allNodes = (node: CommandNode): CommandNode[] => [node, ...node.children.flatMap(allNodes)];
