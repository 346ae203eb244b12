/** A root port's hot-plug slot (PCI Express Base 6.0 §6.7): its registers, and what they tell the guest. */
import { register } from '#vmm/base/bits';
import { field, parts } from '#vmm/base/saved';
import type { Capability } from './capability-list.ts';
import { type ConfigRow, type ConfigSpace, row } from './config-space.ts';

const spec = (section: string): string => `PCI Express Base 6.0 §${section}`;

const slotCapabilities = register({
  width: 32,
  spec: spec('7.5.3.9'),
  fields: {
    attention_button: { bits: 0, access: 'ro' },
    power_controller: { bits: 1, access: 'ro' },
    attention_indicator: { bits: 3, access: 'ro' },
    power_indicator: { bits: 4, access: 'ro' },
    hot_plug_surprise: { bits: 5, access: 'ro' },
    hot_plug_capable: { bits: 6, access: 'ro' },
    no_command_completed: { bits: 18, access: 'ro' },
    physical_slot_number: { bits: [31, 19], access: 'ro' },
  },
});
const indicator = { 1: 'on', 2: 'blinking', 3: 'off' } as const;
const slotControl = register({
  width: 16,
  spec: spec('7.5.3.10'),
  fields: {
    attention_button_enable: { bits: 0 },
    presence_detect_changed_enable: { bits: 3 },
    command_completed_enable: { bits: 4 },
    hot_plug_interrupt_enable: { bits: 5 },
    attention_indicator: { bits: [7, 6], values: indicator },
    power_indicator: { bits: [9, 8], values: indicator },
    power_off: { bits: 10 },
    link_state_changed_enable: { bits: 12 },
  },
});
const slotStatus = register({
  width: 16,
  spec: spec('7.5.3.11'),
  fields: {
    attention_button_pressed: { bits: 0, access: 'w1c' },
    presence_detect_changed: { bits: 3, access: 'w1c' },
    command_completed: { bits: 4, access: 'w1c' },
    presence_detect: { bits: 6, access: 'ro' },
    link_state_changed: { bits: 8, access: 'w1c' },
  },
});

const slotRows: readonly ConfigRow[] = [
  row('slot_capabilities', 0x14, slotCapabilities),
  row('slot_control', 0x18, slotControl),
  row('slot_status', 0x1a, slotStatus),
];
const capable = 0b111_1011;
const control = {
  interrupt: 1 << 5,
  powerIndicatorOff: 0b11 << 8,
  powerIndicatorOn: 0b01 << 8,
  attentionOff: 0b11 << 6,
  powerOff: 1 << 10,
} as const;
/** Bits of Slot Status; those of the events lie at the same place in both registers, but for the link's. */
const status = { button: 1, presenceChanged: 1 << 3, completed: 1 << 4, present: 1 << 6, linkChanged: 1 << 8 } as const;
const linkChangedEnable = 1 << 12;
const sameEnables = status.button | status.presenceChanged | status.completed;
const linkActive = 1 << 13;

/** A PCI Express capability of a port that has a slot. */
export const withSlot = (capability: Capability): Capability => ({
  ...capability,
  registers: [...capability.registers, ...slotRows],
});

/** What the slot's registers hold after a reset with nothing in it: power and indicators are off. */
export const slotReset = (number: number): Readonly<Record<string, number>> => ({
  slot_capabilities: (capable | (number << 19)) >>> 0,
  slot_control: control.powerOff | control.powerIndicatorOff | control.attentionOff,
});

export type SlotEvent = 'button pressed' | 'card in' | 'card out' | 'power on' | 'power off' | 'link up' | 'link down';

export interface SlotPorts {
  /** The port's hot-plug interrupt: one message. */
  readonly raise: () => void;
  /** The card lost its power, or has it again. */
  readonly powered: (isOn: boolean) => void;
  readonly tell: (event: SlotEvent) => void;
}

/**
 * The slot: one card, a power controller, an attention button, and an interrupt. The card's link is up while it has
 * power. Commands are carried out at once, and each is told as completed.
 */
export class HotPlugSlot {
  /** Called when the guest has let the card go for which it was asked. */
  onRelease: (() => void) | undefined;
  /** The guest was asked to let the card go, and has not done so yet. */
  isAsked = false;
  readonly #config: ConfigSpace;
  readonly #ports: SlotPorts;
  #isPresent = false;
  #isLinkUp = false;
  /** §6.7.3.4: an event is pending whose enable bit is set. A message goes out whenever this becomes true. */
  #isInterrupting = false;
  readonly saved = parts({
    isPresent: field(
      () => this.#isPresent,
      (value) => (this.#isPresent = value),
    ),
    isLinkUp: field(
      () => this.#isLinkUp,
      (value) => (this.#isLinkUp = value),
    ),
    isInterrupting: field(
      () => this.#isInterrupting,
      (value) => (this.#isInterrupting = value),
    ),
    isAsked: field(
      () => this.isAsked,
      (value) => (this.isAsked = value),
    ),
  });

  constructor(config: ConfigSpace, ports: SlotPorts) {
    this.#config = config;
    this.#ports = ports;
    config.onWrite('slot_control', (now, old) => this.#commanded(now, old));
    config.onWrite('slot_status', () => this.#interrupt());
    this.restore();
  }

  get hasPower(): boolean {
    return (this.#config.get('slot_control') & control.powerOff) === 0;
  }

  /** The card was in the slot when the machine was switched on. */
  coldPlug(): void {
    this.#isPresent = true;
    this.restore();
  }

  /** Puts the card in, or takes it out whether the guest is ready or not. */
  setPresent(isPresent: boolean): void {
    if (isPresent === this.#isPresent) return;
    this.#isPresent = isPresent;
    this.isAsked = false;
    this.#ports.tell(isPresent ? 'card in' : 'card out');
    this.#set('slot_status', status.present, isPresent);
    // Whoever put it in presses the button, too: a driver of a slot with a button waits for that (§6.7.1.1.1).
    this.#set('slot_status', isPresent ? status.presenceChanged | status.button : status.presenceChanged, true);
    this.#followLink();
    this.#interrupt();
  }

  /**
   * Asks the guest for the card by the attention button. `onRelease` is called when the card has no power and the power
   * indicator is off, which says that it may be taken out (§6.7.1.1.2): now, or later, or never.
   */
  askForRemoval(): void {
    this.isAsked = true;
    if (this.#letGo()) return;
    this.#ports.tell('button pressed');
    this.#set('slot_status', status.button, true);
    this.#interrupt();
  }

  /** After a reset of the configuration space: what is in the slot is still there, and has power. */
  restore(): void {
    if (this.#isPresent) {
      this.#set('slot_control', control.powerOff | control.powerIndicatorOff, false);
      this.#set('slot_control', control.powerIndicatorOn, true);
      this.#set('slot_status', status.present, true);
    }
    this.#isLinkUp = this.#isPresent;
    this.#set('link_status', linkActive, this.#isLinkUp);
    this.#isInterrupting = false;
  }

  #set(register: string, bits: number, on: boolean): void {
    const value = this.#config.get(register);
    this.#config.set(register, on ? value | bits : value & ~bits);
  }

  #commanded(now: number, old: number): void {
    const hasPower = (now & control.powerOff) === 0;
    if (hasPower !== ((old & control.powerOff) === 0)) {
      this.#ports.tell(hasPower ? 'power on' : 'power off');
      this.#ports.powered(hasPower);
      this.#followLink();
    }
    this.#set('slot_status', status.completed, true);
    this.#letGo();
    this.#interrupt();
  }

  #letGo(): boolean {
    const indicator = this.#config.get('slot_control') & control.powerIndicatorOff;
    if (!this.isAsked || this.hasPower || indicator !== control.powerIndicatorOff) return false;
    this.isAsked = false;
    this.onRelease?.();
    return true;
  }

  #followLink(): void {
    const isUp = this.#isPresent && this.hasPower;
    if (isUp === this.#isLinkUp) return;
    this.#isLinkUp = isUp;
    this.#ports.tell(isUp ? 'link up' : 'link down');
    this.#set('link_status', linkActive, isUp);
    this.#set('slot_status', status.linkChanged, true);
  }

  #interrupt(): void {
    const enables = this.#config.get('slot_control');
    const events = this.#config.get('slot_status');
    const isPending =
      (enables & events & sameEnables) !== 0 ||
      ((enables & linkChangedEnable) !== 0 && (events & status.linkChanged) !== 0);
    const was = this.#isInterrupting;
    this.#isInterrupting = isPending && (enables & control.interrupt) !== 0;
    if (this.#isInterrupting && !was) this.#ports.raise();
  }
}
