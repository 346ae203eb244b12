/** The man page (man(7), groff_man(7)), made from the tree of commands. */
import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { allNodes, type CommandNode } from './command-tree.ts';
import { exitCodes } from './exit.ts';
import { version } from './version.ts';

const escape = (text: string): string =>
  text
    .replaceAll('\\', String.raw`\e`)
    .replaceAll('-', String.raw`\-`)
    .replaceAll(/^([.'])/gm, String.raw`\&$1`);
const bold = (text: string): string => `\\fB${escape(text)}\\fR`;

/** Text whose lines stay as they are. */
const verbatim = (text: string): string[] => ['.PP', '.nf', ...escape(text).split('\n'), '.fi'];

/** What `--help` says before and behind the generated part. */
function extraHelp(command: CommandUnknownOpts): { readonly before: string; readonly after: string } {
  let text = '';
  command.configureOutput({ writeOut: (piece) => (text += piece) }).outputHelp();
  const middle = command.helpInformation();
  const at = text.indexOf(middle);
  return { before: text.slice(0, Math.max(0, at)).trim(), after: at < 0 ? '' : text.slice(at + middle.length).trim() };
}

const optionLines = ({ command }: CommandNode): string[] =>
  command.options.flatMap(({ flags, description }) => ['.TP', bold(flags), escape(description)]);

function section(node: CommandNode): string[] {
  const { command, path } = node;
  const { before, after } = extraHelp(command);
  return [
    `.SS "${escape(['iommulab', ...path].join(' '))}"`,
    `${bold(['iommulab', ...path].join(' '))} ${escape(command.usage())}`,
    '.PP',
    escape(command.description()),
    ...command.registeredArguments.flatMap((argument) => ['.TP', `\\fI${escape(argument.name())}\\fR`, escape(argument.description || argument.name())]), // prettier-ignore
    ...optionLines(node),
    ...(before === '' ? [] : verbatim(before)),
    ...(after === '' ? [] : verbatim(after)),
  ];
}

export function manPage(root: CommandNode): string {
  const { before } = extraHelp(root.command);
  const lines = [
    `.TH IOMMULAB 1 "" "iommulab ${version}" "User Commands"`,
    '.SH NAME',
    `iommulab \\- ${escape(root.command.description().replace(/\.$/, ''))}`,
    '.SH SYNOPSIS',
    `${bold('iommulab')} \\fIcommand\\fR [\\fIoptions\\fR]`,
    '.SH EXAMPLES',
    ...verbatim(before.replace(/^Examples:\n/, '')),
    '.SH OPTIONS',
    ...optionLines(root),
    '.SH COMMANDS',
    ...allNodes(root).slice(1).flatMap(section),
    '.SH "EXIT STATUS"',
    ...Object.values(exitCodes).flatMap(({ code, doc }) => ['.TP', bold(String(code)), escape(doc)]),
    '.SH ENVIRONMENT',
    '.TP',
    bold('NO_COLOR, FORCE_COLOR'),
    'no colour, or colour also where no terminal is',
  ];
  return `${lines.join('\n')}\n`;
}
