import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ControlConnection, longestRequest } from '#vmm/control/connection';
import { type ControlTarget, verbs } from '#vmm/control/verbs';
import { inspectionNames, inspections } from '#vmm/inspect/inspections';
import { build } from '../inspect/machine.ts';

const { machine } = build();
machine.run({ event: 'nvme.ready' });

interface Answer {
  readonly QMP?: unknown;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly id?: unknown;
}

function client() {
  const sent: string[] = [];
  const calls: string[] = [];
  let isStopped = false;
  const target: ControlTarget = {
    machine,
    version: '0',
    get isStopped() {
      return isStopped;
    },
    stop: () => void (isStopped = true),
    cont: () => void (isStopped = false),
    quit: () => void calls.push('quit'),
    save: (path) => (calls.push(`save ${path}`), { path, bytes: 7 }),
  };
  const connection = new ControlConnection(target, (text) => sent.push(text));
  const take = () =>
    sent.splice(0).map((text) => {
      expect(text.endsWith('\n')).toBe(true);
      expect(text.indexOf('\n')).toBe(text.length - 1);
      return JSON.parse(text) as Answer;
    });
  return {
    connection,
    calls,
    take,
    ask: (request: unknown) => {
      connection.receive(`${JSON.stringify(request)}\n`);
      return take().at(-1)!;
    },
  };
}

describe('a client of the control socket', () => {
  it('is greeted, and answered with its id', () => {
    const { take, ask, calls } = client();
    expect(take()).toEqual([{ QMP: { version: { iommulab: '0' }, capabilities: [] } }]);
    expect(ask({ execute: 'qmp_capabilities', id: 7 })).toEqual({ return: {}, id: 7 });
    expect(ask({ execute: 'query-status' })['return']).toMatchObject({ status: 'running', running: true });
    expect(ask({ execute: 'stop' })).toEqual({ return: {} });
    expect(ask({ execute: 'query-status', id: 'x' })).toMatchObject({ return: { status: 'paused' }, id: 'x' });
    ask({ execute: 'quit' });
    expect(calls).toEqual(['quit']);
  });

  it('is told every verb, and every verb answers', () => {
    const { ask } = client();
    const listed = ask({ execute: 'query-commands' })['return'] as { name: string; doc: string }[];
    expect(listed.map(({ name }) => name)).toEqual(Object.keys(verbs));
    for (const { name, doc } of listed) {
      expect(doc).not.toBe('');
      const answer = ask({ execute: name, id: 1 });
      expect('return' in answer !== 'error' in answer, name).toBe(true);
      expect(answer['id']).toBe(1);
      expect(answer['error']?.desc ?? '').not.toContain('bug');
    }
  });

  it('looks at the machine', () => {
    const { ask } = client();
    const rows = ask({ execute: 'inspect', arguments: { what: 'device-table' } })['return'] as { name: string }[];
    expect(rows.map(({ name }) => name)).toContain('nvme0');
    expect((ask({ execute: 'query-pci' })['return'] as string[])[2]).toContain('nvme0');
    expect((ask({ execute: 'query-stats' })['return'] as { devices: unknown[] }).devices).toHaveLength(3);
  });

  it('looks at everything, and at a translation, of a machine that stands still, and changes nothing', () => {
    const { ask } = client();
    ask({ execute: 'stop' });
    const before = [machine.instructions, machine.clock.now, machine.stats()];
    for (const what of inspectionNames) {
      const rows = ask({ execute: 'inspect', arguments: { what } })['return'] as Record<string, unknown>[];
      for (const row of rows) expect(Object.keys(row), what).toEqual(Object.keys(inspections[what].columns));
      expect(what === 'iotlb' || rows.length > 0, what).toBe(true);
    }
    const explained = { device: 'nvme0', address: '0x40000000', write: true };
    const lines = ask({ execute: 'explain', arguments: explained })['return'] as string[];
    expect(lines.join('\n')).toMatch(/DDT|DC/);
    const data = ask({ execute: 'explain', arguments: { ...explained, json: true } })['return'];
    expect(data).toMatchObject({ device: 'nvme0', iova: '0x40000000', access: 'write' });
    expect([machine.instructions, machine.clock.now, machine.stats()]).toEqual(before);
  });

  it('makes things go wrong', () => {
    const { ask } = client();
    const inject = { kind: 'ioctl', name: 'IOMMU_HWPT_ALLOC', errno: 'ENOMEM' };
    expect(ask({ execute: 'inject', arguments: inject })).toEqual({ return: {} });
    expect(ask({ execute: 'inject', arguments: { ...inject, errno: 'EWHAT' } })['error']?.desc).toContain(
      'ioctl.errno',
    );
    expect(ask({ execute: 'inject', arguments: {} })['error']?.desc).toContain('kind: expected one of ioctl');
  });

  it.each([
    ['nothing of JSON', 'not JSON'],
    ['[1]', 'expected a JSON object'],
    ['{"execute":1}', 'execute: expected the name'],
    ['{"execute":"stop","arguments":[]}', 'arguments: expected an object'],
    ['{"execute":"stop","arguments":{"now":1}}', 'expected no arguments, found "now"'],
    ['{"execute":"inspect"}', 'what: expected one of registers'],
    ['{"execute":"inspect","arguments":{"what":"constructor"}}', 'what: expected one of registers'],
    ['{"execute":"toString"}', 'there is no verb'],
    ['{"execute":"stop","exec":1}', 'found "exec"'],
    ['{"execute":"stop","id":{}}', 'id: expected'],
    ['{"execute":"explain","arguments":{"device":"nvme0"}}', 'address: expected an address of 64 bits'],
    ['{"execute":"explain","arguments":{"device":"nvme0","address":-1}}', 'address: expected an address of 64 bits'],
    ['{"execute":"explain","arguments":{"device":"x","address":0}}', 'the id of a device (nvme0, net0, net1)'],
    ['{"execute":"explain","arguments":{"device":"nvme0","address":0,"pasid":1e9}}', 'pasid: expected a whole number'],
    ['{"execute":"explain","arguments":{"device":"nvme0","address":0,"write":"yes"}}', 'write: expected true or false'],
    ['{"execute":"snapshot"}', 'file: expected the path of a file, found nothing'],
    ['{"execute":"device_add"}', 'driver: expected one of nvme, nic, exerciser, found nothing'],
    ['{"execute":"device_add","arguments":{"driver":"nvme"}}', 'path: expected the path of a disk image'],
    ['{"execute":"device_add","arguments":{"driver":"exerciser"}}', 'found a machine without any (--hotplug-ports)'],
    ['{"execute":"device_add","arguments":{"driver":"exerciser","bus":1}}', 'bus: expected the id of a hot-plug port'],
    ['{"execute":"device_del"}', 'id: expected the id of a device, found nothing'],
    ['{"execute":"device_del","arguments":{"id":"x"}}', 'there is no device "x"'],
    ['{"execute":"device_del","arguments":{"id":"nvme0"}}', 'expected a device in a hot-plug slot (none)'],
    ['{"execute":"device_del","arguments":{"id":"nvme0","surprise":1}}', 'surprise: expected true or false'],
  ])('answers %s with an error', (line, sentence) => {
    const { connection, take } = client();
    connection.receive(`${line}\n`);
    expect(take().at(-1)!['error']?.desc).toContain(sentence);
  });

  it('answers a request without end once, and goes on with the next', () => {
    const { connection, take } = client();
    take();
    for (let i = 0; i < 5; i++) connection.receive('x'.repeat(longestRequest / 2));
    connection.receive(`y\n{"execute":"query-version"}\n`);
    const answers = take();
    expect(answers).toHaveLength(2);
    expect(answers[0]!['error']?.desc).toContain('at most');
    expect(answers[1]).toEqual({ return: { version: '0' } });
  });

  it('survives anything, and answers every line exactly once', () => {
    const json = fc.json({ maxDepth: 4 });
    const request = fc
      .record({
        execute: fc.oneof(fc.constantFrom(...Object.keys(verbs).filter((name) => name !== 'inject')), fc.string(), fc.jsonValue()),
        arguments: fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom('what', 'kind', 'file'), fc.jsonValue())),
        id: fc.jsonValue(),
      }, { requiredKeys: [] })
      .map((value) => JSON.stringify(value)); // prettier-ignore
    const junk = fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\n', ''));
    const line = fc.oneof(json, request, junk).filter((text) => text.trim() !== '' && !text.includes('\n'));
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), (lines, cuts) => {
        const { connection, take } = client();
        take();
        const text = lines.map((one) => `${one}\n`).join('');
        for (let at = 0, i = 0; at < text.length; i++) {
          const size = cuts[i % cuts.length]!;
          connection.receive(text.slice(at, at + size));
          at += size;
        }
        const answers = take();
        expect(answers).toHaveLength(lines.length);
        for (const answer of answers) expect('return' in answer || 'error' in answer).toBe(true);
      }),
      { numRuns: 150 },
    ); // prettier-ignore
    expect(machine.run({ instructions: 1000 }).outcome).toBe('limit');
  });

  it('survives inject with anything', () => {
    const { machine: victim } = build();
    victim.run({ event: 'nvme.ready' });
    const { ask } = client();
    const kinds = ask({ execute: 'query-injections' })['return'] as { kind: string }[];
    const value = fc.oneof(fc.integer(), fc.string(), fc.boolean(), fc.constantFrom('nvme0', 'net0', 'read', 'lost', 'fault', '0x80000000', '1ms'), fc.jsonValue()); // prettier-ignore
    const keys = fc.constantFrom('name', 'errno', 'nth', 'times', 'outcome', 'by', 'device', 'queue', 'for', 'address', 'value', 'after', 'disk', 'on', 'nic', 'up', 'pasid', 'group'); // prettier-ignore
    fc.assert(
      fc.property(fc.constantFrom(...kinds.map(({ kind }) => kind)), fc.dictionary(keys, value), (kind, options) => {
        const sent: string[] = [];
        const target: ControlTarget = { machine: victim, version: '0', isStopped: false, stop: () => {}, cont: () => {}, quit: () => {}, save: (path) => ({ path, bytes: 0 }) }; // prettier-ignore
        const connection = new ControlConnection(target, (text) => sent.push(text));
        connection.receive(`${JSON.stringify({ execute: 'inject', arguments: { ...options, kind } })}\n`);
        expect(sent).toHaveLength(2);
        expect(sent[1]).not.toContain('bug');
      }),
      { numRuns: 200 },
    );
  });
});
