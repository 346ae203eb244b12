/** Completion scripts, made from the tree of commands: nothing is run while a person types. */
import { allNodes, type CommandNode, type Values, type Word } from './command-tree.ts';

const quote = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;
const place = (node: CommandNode): string => node.path.join(' ');
/** A sentence short enough for a menu, on one line. */
const brief = (doc: string): string => doc.replaceAll(/\s+/g, ' ').slice(0, 80);
const flagsOf = (option: CommandNode['options'][number]): string[] =>
  [option.long, option.short].filter((flag) => flag !== undefined);

/** Where a further word leads: `config` and `print` to `config print`. */
const steps = (root: CommandNode): { readonly from: string; readonly word: string; readonly to: string }[] =>
  allNodes(root).flatMap((node) =>
    node.children.map((child) => ({ from: place(node), word: child.path.at(-1)!, to: place(child) })),
  );
/** What may come where no option is begun. */
const argumentsOf = (node: CommandNode): Word[] => [
  ...node.children.map(({ path, command }) => ({ word: path.at(-1)!, doc: command.description() })),
  ...node.positional.words,
];

function bash(root: CommandNode): string {
  const reply = ({ words, files }: Values): string =>
    [
      `mapfile -t COMPREPLY < <(compgen -W ${quote(words.map(({ word }) => word).join(' '))} -- "$cur")`,
      ...(files ? ['compopt -o filenames 2>/dev/null; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur")'] : []), // prettier-ignore
    ].join('; ');
  const values = allNodes(root).flatMap((node) =>
    node.options
      .filter(({ takesValue }) => takesValue)
      .map((option) => {
        const patterns = flagsOf(option).map((flag) => quote(`${place(node)}:${flag}`));
        return `    ${patterns.join('|')}) ${reply(option)}; return ;;`;
      }),
  );
  const nodes = allNodes(root).map((node) => {
    const flags = node.options.flatMap(flagsOf).map((word) => ({ word, doc: '' }));
    const rest = { words: argumentsOf(node), files: node.positional.files };
    return `    ${quote(place(node))}) if [[ $cur == -* ]]; then ${reply({ words: flags, files: false })}; else ${reply(rest)}; fi ;;`;
  });
  return `# bash completion for iommulab: eval "$(iommulab completion bash)"
_iommulab() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} at='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at/\${COMP_WORDS[i]}" in
${steps(root)
  .map(({ from, word, to }) => `      ${quote(`${from}/${word}`)}) at=${quote(to)} ;;`)
  .join('\n')}
    esac
  done
  case "$at:$prev" in
${values.join('\n')}
  esac
  case "$at" in
${nodes.join('\n')}
  esac
}
complete -F _iommulab iommulab
`;
}

function zsh(root: CommandNode): string {
  const described = ({ word, doc }: Word): string => quote(`${word.replaceAll(':', String.raw`\:`)}:${brief(doc)}`);
  const list = (words: readonly Word[]): string => `(${words.map(described).join(' ')})`;
  const values = allNodes(root).flatMap((node) =>
    node.options
      .filter(({ takesValue }) => takesValue)
      .map((option) => {
        const patterns = flagsOf(option).map((flag) => quote(`${place(node)}:${flag}`));
        const { words, files } = option;
        const add = [
          ...(words.length > 0 ? [`found=${list(words)}; _describe value found`] : []),
          ...(files ? ['_files'] : []),
        ];
        return `    ${patterns.join('|')}) ${[...add, 'return'].join('; ')} ;;`;
      }),
  );
  const nodes = allNodes(root).map((node) => {
    const flags = node.options.flatMap((option) => flagsOf(option).map((word) => ({ word, doc: option.doc })));
    const files = node.positional.files ? '; _files' : '';
    return `    ${quote(place(node))}) if [[ $PREFIX == -* ]]; then found=${list(flags)}; _describe -o option found; else found=${list(argumentsOf(node))}; _describe argument found${files}; fi ;;`;
  });
  return `#compdef iommulab
# zsh completion for iommulab: a file _iommulab in $fpath, or eval "$(iommulab completion zsh)"
_iommulab() {
  local prev=\${words[CURRENT-1]} at='' i
  local -a found
  for ((i = 2; i < CURRENT; i++)); do
    case "$at/\${words[i]}" in
${steps(root)
  .map(({ from, word, to }) => `      ${quote(`${from}/${word}`)}) at=${quote(to)} ;;`)
  .join('\n')}
    esac
  done
  case "$at:$prev" in
${values.join('\n')}
  esac
  case "$at" in
${nodes.join('\n')}
  esac
}
if [[ \${funcstack[1]} == _iommulab ]]; then _iommulab "$@"; else compdef _iommulab iommulab; fi
`;
}

function fish(root: CommandNode): string {
  // fish knows only \\\\ and \\' inside single quotes.
  const q = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const rows = allNodes(root).flatMap((node) => {
    const when = `complete -c iommulab -n ${q(`__iommulab_at ${q(place(node))}`)}`;
    const list = (words: readonly Word[]): string => words.map(({ word }) => word).join(' ');
    return [
      ...node.options.map(({ long, short, doc, takesValue, words, files }) => {
        const names = `${long === undefined ? '' : ` -l ${long.slice(2)}`}${short === undefined ? '' : ` -s ${short.slice(1)}`}`;
        const values = takesValue ? ` -r ${files ? '-F' : '-f'}${words.length > 0 ? ` -a ${q(list(words))}` : ''}` : '';
        return `${when}${names}${values} -d ${q(brief(doc))}`;
      }),
      ...argumentsOf(node).map(({ word, doc }) => `${when} -a ${q(word)}${doc === '' ? '' : ` -d ${q(brief(doc))}`}`),
      ...(node.positional.files ? [`${when} -F`] : []),
    ];
  });
  return `# fish completion for iommulab: iommulab completion fish | source
function __iommulab_at
    set -l at ''
    for word in (commandline -opc)[2..-1]
        switch "$at/$word"
${steps(root)
  .map(({ from, word, to }) => `            case ${q(`${from}/${word}`)}\n                set at ${q(to)}`)
  .join('\n')}
        end
    end
    test "$at" = "$argv[1]"
end
complete -c iommulab -f
${rows.join('\n')}
`;
}

/** THE table. */
export const shells: Readonly<Record<string, (root: CommandNode) => string>> = { bash, zsh, fish };
