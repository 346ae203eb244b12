/** Queues and the commands on their lists, as a snapshot holds them: commands name their queue by its place. */
import { type Data, listOf, recordOf, SavedError } from '#vmm/base/saved';
import { Command, type CommandList, CompletionQueue, SubmissionQueue } from './queues.ts';

export interface QueueState {
  readonly submissions: (SubmissionQueue | undefined)[];
  readonly completions: (CompletionQueue | undefined)[];
  /** Lists of commands besides those that wait for room in a completion queue. */
  readonly lists: readonly CommandList[];
}

const submissionFields = ['head', 'tail', 'inFlight', 'isStopped'] as const;
const completionFields = ['head', 'tail', 'phase', 'users', 'isSignalDue', 'isStopped'] as const;
const commandFields = ['due', 'result', 'status', 'progress', 'settled', 'bytes'] as const;

const pick = (object: object, names: readonly string[]): Record<string, Data> =>
  Object.fromEntries(names.map((name) => [name, (object as Record<string, Data>)[name]]));

const commandsOf = (list: CommandList): Command[] => {
  const commands: Command[] = [];
  for (let command = list.first; command; command = command.next) commands.push(command);
  return commands;
};

export const saveQueues = ({ submissions, completions, lists }: QueueState): Data => {
  // A queue that was deleted lives on in its commands.
  const allCompletions = new Set(completions.filter((queue) => queue !== undefined));
  const allLists = [...lists, ...[...allCompletions].map(({ waiting }) => waiting)].map(commandsOf);
  const allSubmissions = new Set(submissions.filter((queue) => queue !== undefined));
  for (const { queue } of allLists.flat()) allSubmissions.add(queue);
  for (const queue of allSubmissions) allCompletions.add(queue.completions);
  const [sqs, cqs] = [[...allSubmissions], [...allCompletions]];
  const saveCommand = (command: Command): Data => ({
    dw: command.dw,
    queue: sqs.indexOf(command.queue),
    ...pick(command, commandFields),
  });
  return {
    completions: cqs.map((queue) => ({
      ...pick(queue, ['id', 'size', 'hi', 'lo', 'pasid', 'vector', ...completionFields]),
      place: completions.indexOf(queue),
      waiting: commandsOf(queue.waiting).map(saveCommand),
    })),
    submissions: sqs.map((queue) => ({
      ...pick(queue, ['id', 'size', 'hi', 'lo', 'pasid', ...submissionFields]),
      place: submissions.indexOf(queue),
      completions: cqs.indexOf(queue.completions),
    })),
    submissionPlaces: submissions.length,
    completionPlaces: completions.length,
    lists: lists.map((list) => commandsOf(list).map(saveCommand)),
  };
};

type Base = {
  readonly id: number;
  readonly size: number;
  readonly hi: number;
  readonly lo: number;
  readonly pasid: number;
};

export const restoreQueues = (data: Data, { submissions, completions, lists }: QueueState): void => {
  const saved = recordOf(data);
  submissions.length = 0;
  completions.length = 0;
  submissions.length = Number(saved['submissionPlaces']);
  completions.length = Number(saved['completionPlaces']);
  const waiting: { readonly list: CommandList; readonly commands: Data }[] = [];
  const cqs = listOf(saved['completions']).map((item) => {
    const row = recordOf(item);
    const queue = new CompletionQueue(row as Base, Number(row['vector']));
    Object.assign(queue, pick(row, completionFields));
    if (Number(row['place']) >= 0) completions[Number(row['place'])] = queue;
    waiting.push({ list: queue.waiting, commands: row['waiting'] });
    return queue;
  });
  const sqs = listOf(saved['submissions']).map((item) => {
    const row = recordOf(item);
    const target = cqs[Number(row['completions'])];
    if (!target) throw new SavedError('a submission queue without completions');
    const queue = new SubmissionQueue(row as Base, target);
    Object.assign(queue, pick(row, submissionFields));
    if (Number(row['place']) >= 0) submissions[Number(row['place'])] = queue;
    return queue;
  });
  const savedLists = listOf(saved['lists']);
  if (savedLists.length !== lists.length) throw new SavedError(`expected ${lists.length} lists of commands`);
  for (const { list, commands } of [...waiting, ...lists.map((list, i) => ({ list, commands: savedLists[i] }))]) {
    while (list.shift());
    for (const item of listOf(commands)) {
      const row = recordOf(item);
      const queue = sqs[Number(row['queue'])];
      const { dw } = row;
      if (!queue || !(dw instanceof Int32Array) || dw.length !== 16) throw new SavedError('a command without a queue');
      const command = new Command(queue);
      command.dw.set(dw);
      Object.assign(command, pick(row, commandFields));
      list.push(command);
    }
  }
};
