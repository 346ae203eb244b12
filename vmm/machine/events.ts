import { type EventFields, eventTable, type FieldValue, type TraceEvent } from '#vmm/base/events';

export const machineEvents = eventTable({
  'machine.device': {
    doc: 'A device was plugged into a running machine, was asked for, or is gone.',
    level: 'info',
    fields: { device: 'text', port: 'text', state: 'text' },
  },
  'machine.inject': {
    doc: 'An injected fault was armed, took effect, or is over (see the table of injections).',
    level: 'info',
    fields: { kind: 'text', state: 'text', detail: 'text' },
  },
});

const globs = new Map<string, RegExp>();
function matchesGlob(glob: string, text: string): boolean {
  let pattern = globs.get(glob);
  if (!pattern) {
    const source = glob.replaceAll(/[.*+?^${}()|[\]\\]/g, (c) => (c === '*' ? '.*' : c === '?' ? '.' : `\\${c}`));
    globs.set(glob, (pattern = new RegExp(`^${source}$`, 's')));
  }
  return pattern.test(text);
}

function sameValue(wanted: FieldValue, found: FieldValue | undefined): boolean {
  if (found === undefined) return false;
  if (typeof wanted === 'string' && typeof found === 'string') return matchesGlob(wanted, found);
  if (typeof wanted === 'string') {
    const [, bus, slot, fn] = /^([\da-f]{2}):([01][\da-f])\.([0-7])$/i.exec(wanted) ?? [];
    if (bus !== undefined)
      return BigInt(found) === BigInt((Number.parseInt(bus, 16) << 8) | (Number.parseInt(slot!, 16) << 3) | Number(fn));
    try {
      return BigInt(wanted) === BigInt(found);
    } catch {
      return false;
    }
  }
  if (typeof found === 'string') return found === String(wanted);
  return Number.isInteger(Number(wanted)) && BigInt(wanted) === BigInt(found);
}

/** Whether an event has this name and these fields. */
export function matchesEvent(event: TraceEvent, name: string, fields: EventFields = {}): boolean {
  if (event.name !== name) return false;
  for (const key in fields) if (!sameValue(fields[key]!, event.fields[key])) return false;
  return true;
}
