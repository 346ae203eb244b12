#include "hot-plug.h"
#include "clock.h"
#include "device-tree.h"
#include "imsic.h"
#include "iommu.h"
#include "program.h"
#include "trap.h"

#define COMMAND 0x04
#define CLASS 0x08
#define HEADER_TYPE 0x0e
#define BAR0 0x10
#define SECONDARY_BUS 0x19
#define MEMORY_WINDOW 0x20
#define COMMAND_MEMORY 2
#define COMMAND_MASTER 4
#define COMMAND_INTX_OFF 0x400

#define CAPABILITY_MSI 0x05
#define CAPABILITY_EXPRESS 0x10
#define CAPABILITY_MSIX 0x11
#define EXPRESS_HAS_SLOT (1u << 8)
#define LINK_STATUS 0x12
#define LINK_ACTIVE (1u << 13)
#define SLOT_CAPABILITIES 0x14
#define HOT_PLUG_CAPABLE (1u << 6)
#define SLOT_CONTROL 0x18
#define SLOT_STATUS 0x1a

// Slot Control (7.5.3.10): events enabled, the interrupt, the power indicator and the power controller.
#define EVENTS (1u << 0 | 1u << 3 | 1u << 4 | 1u << 12)
#define INTERRUPT (1u << 5)
#define ATTENTION_OFF (3u << 6)
#define POWER_INDICATOR_ON (1u << 8)
#define POWER_INDICATOR_BLINKS (2u << 8)
#define POWER_INDICATOR_OFF (3u << 8)
#define POWER_OFF (1u << 10)
#define EVERY_EVENT (SLOT_BUTTON | SLOT_PRESENCE_CHANGED | SLOT_COMPLETED | SLOT_LINK_CHANGED)

#define WINDOW_BYTES (4ul << 20)
#define PORT_IOVA 0x40000000ul
#define COMMAND_MS 1000u

static struct slot slots[SLOTS_MAX];
static u32 count;
static u64 ecam;
static u32 bus_first;

static u16 status_of(const struct slot *s) { return mmio_read16(s->port.config + s->express + SLOT_STATUS); }

static void on_slot(void *context) {
  struct slot *s = context;
  s->interrupts++;
  // A message is sent when something becomes pending; what comes while the rest is cleared has to be looked for.
  for (;;) {
    u32 events = status_of(s) & EVERY_EVENT;
    if (events == 0 || status_of(s) == 0xffff) return;
    mmio_write16(s->port.config + s->express + SLOT_STATUS, (u16)events);
    s->events |= events;
  }
}

static bool has_completed(void *context) { return ((struct slot *)context)->events & SLOT_COMPLETED; }

static u32 take(struct slot *s, u32 bits) {
  interrupts_off();
  u32 taken = s->events & bits;
  s->events &= ~bits;
  interrupts_on();
  return taken;
}

// One command to the slot, and its completion (6.7.3.2).
static void control(struct slot *s, u32 value) {
  take(s, SLOT_COMPLETED);
  mmio_write16(s->port.config + s->express + SLOT_CONTROL, (u16)(value | EVENTS | INTERRUPT | ATTENTION_OFF));
  REQUIRE(wait_until(has_completed, s, COMMAND_MS), "slot %u does not complete a command", s->number);
}

static void open_interrupt(struct slot *s) {
  u32 msi = pci_capability(&s->port, CAPABILITY_MSI);
  REQUIRE(msi != 0, "the port of slot %u has no MSI", s->number);
  dma_space_open(&s->space, "a port", &s->port, PORT_IOVA);
  u64 address = dma_msi_address(&s->space), config = s->port.config + msi;
  mmio_write32(config + 4, (u32)address);
  mmio_write32(config + 8, (u32)(address >> 32));
  mmio_write16(config + 12, (u16)imsic_take(on_slot, s));
  mmio_write16(config + 2, mmio_read16(config + 2) | 1);
}

u32 slots_open(void) {
  dt_node host = dt_compatible(DT_NONE, "pci-host-ecam-generic");
  u32 bytes;
  const u8 *ranges = dt_property(host, "ranges", &bytes), *buses = dt_property(host, "bus-range", NULL);
  REQUIRE(dt_reg(host, 0, &ecam, NULL) && ranges != NULL, "no PCI host bridge");
  bus_first = buses == NULL ? 0 : dt_cell(buses, 0);
  u64 top = 0;
  for (u32 i = 0; (i + 1) * 28 <= bytes; i++)
    if ((dt_cell(ranges + i * 28, 0) >> 24 & 3) == 2)
      top = ((u64)dt_cell(ranges + i * 28, 1) << 32 | dt_cell(ranges + i * 28, 2)) +
            ((u64)dt_cell(ranges + i * 28, 5) << 32 | dt_cell(ranges + i * 28, 6));
  for (u32 device = 0; device < 32 && count < SLOTS_MAX; device++) {
    struct slot *s = &slots[count];
    s->port.config = ecam + ((u64)device << 15);
    s->port.rid = bus_first << 8 | device << 3;
    if (mmio_read16(s->port.config) == 0xffff || (mmio_read8(s->port.config + HEADER_TYPE) & 0x7f) != 1) continue;
    s->express = pci_capability(&s->port, CAPABILITY_EXPRESS);
    if (s->express == 0 || (mmio_read16(s->port.config + s->express + 2) & EXPRESS_HAS_SLOT) == 0) continue;
    u32 capable = mmio_read32(s->port.config + s->express + SLOT_CAPABILITIES);
    if ((capable & HOT_PLUG_CAPABLE) == 0) continue;
    s->number = capable >> 19;
    s->bus = mmio_read8(s->port.config + SECONDARY_BUS);
    // From the top of the 32-bit window down; BARs of other functions grow from its bottom.
    top -= WINDOW_BYTES;
    s->window = top;
    s->window_bytes = WINDOW_BYTES;
    u32 last = (u32)(top + WINDOW_BYTES - 1);
    mmio_write32(s->port.config + MEMORY_WINDOW, (last >> 16 & 0xfff0) << 16 | (u32)(top >> 16 & 0xfff0));
    mmio_write16(s->port.config + COMMAND, COMMAND_INTX_OFF | COMMAND_MEMORY | COMMAND_MASTER);
    count++;
    open_interrupt(s);
    // What was pending before anybody listened is of no interest, but for a card that is there.
    mmio_write16(s->port.config + s->express + SLOT_STATUS, EVERY_EVENT);
    bool is_occupied = slot_is_occupied(s);
    control(s, is_occupied ? POWER_INDICATOR_ON : POWER_INDICATOR_OFF | POWER_OFF);
    if (is_occupied) s->events |= SLOT_PRESENCE_CHANGED;
  }
  return count;
}

struct slot *slot_at(u32 index) { return index < count ? &slots[index] : NULL; }

static bool has_event(void *context) {
  (void)context;
  for (u32 i = 0; i < count; i++)
    if (slots[i].events & (SLOT_BUTTON | SLOT_PRESENCE_CHANGED)) return true;
  return false;
}

bool slots_wait(u64 milliseconds) { return wait_until(has_event, NULL, milliseconds); }
u32 slot_take(struct slot *s) { return take(s, SLOT_BUTTON | SLOT_PRESENCE_CHANGED | SLOT_LINK_CHANGED); }
bool slot_is_occupied(const struct slot *s) { return status_of(s) & SLOT_PRESENT; }

static bool link_is_active(void *context) {
  struct slot *s = context;
  return mmio_read16(s->port.config + s->express + LINK_STATUS) & LINK_ACTIVE;
}

// Memory BARs one behind the other in the port's window.
static bool place_bars(struct slot *s) {
  struct pci_function *f = &s->card;
  u64 next = s->window, end = s->window + s->window_bytes;
  for (u32 i = 0; i < 6; i++) {
    u64 at = f->config + BAR0 + 4 * i;
    u32 flags = mmio_read32(at);
    mmio_write32(at, 0xffffffff);
    u32 mask = mmio_read32(at);
    if (mask == 0 || (flags & 1) != 0) {
      mmio_write32(at, flags);
      continue;
    }
    u64 bytes = (u32)(~(mask & ~15u) + 1);
    next = ALIGN_UP(next, bytes);
    if (next + bytes > end) return false;
    mmio_write32(at, (u32)next);
    f->bar[i] = next;
    f->bar_bytes[i] = bytes;
    next += bytes;
    if ((flags & 6) == 4) mmio_write32(f->config + BAR0 + 4 * ++i, 0);
  }
  return true;
}

static void find_msix(struct pci_function *f) {
  u32 at = f->msix_capability = pci_capability(f, CAPABILITY_MSIX);
  if (at == 0) return;
  u32 table = mmio_read32(f->config + at + 4), pending = mmio_read32(f->config + at + 8);
  f->msix_entries = (mmio_read16(f->config + at + 2) & 0x7ff) + 1u;
  f->msix_table = f->bar[table & 7] + (table & ~7u);
  f->msix_pending = f->bar[pending & 7] + (pending & ~7u);
}

const char *slot_bring_up(struct slot *s) {
  control(s, POWER_INDICATOR_BLINKS);
  if (!wait_until(link_is_active, s, COMMAND_MS)) return "the link stays down";
  struct pci_function *f = &s->card;
  memset(f, 0, sizeof *f);
  f->config = ecam + ((u64)(s->bus - bus_first) << 20);
  f->rid = s->bus << 8;
  u32 id = mmio_read32(f->config);
  if ((id & 0xffff) == 0xffff) return "nothing answers behind the port";
  f->vendor = (u16)id;
  f->device = (u16)(id >> 16);
  f->class_code = mmio_read32(f->config + CLASS) >> 8;
  mmio_write16(f->config + COMMAND, COMMAND_INTX_OFF);
  if (!place_bars(s)) return "the BARs do not fit the port's window";
  mmio_write16(f->config + COMMAND, COMMAND_INTX_OFF | COMMAND_MEMORY);
  find_msix(f);
  control(s, POWER_INDICATOR_ON);
  return NULL;
}

void slot_let_go(struct slot *s) {
  control(s, POWER_INDICATOR_BLINKS | POWER_OFF);
  control(s, POWER_INDICATOR_OFF | POWER_OFF);
}
