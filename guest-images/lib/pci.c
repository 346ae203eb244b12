#include "pci.h"
#include "clock.h"
#include "device-tree.h"
#include "program.h"

// Offsets in the configuration space (PCI Local Bus 3.0, chapter 6).
#define COMMAND 0x04
#define CLASS 0x08
#define HEADER_TYPE 0x0e
#define BAR0 0x10
#define BUS_NUMBERS 0x18
#define MEMORY_WINDOW 0x20
#define PREFETCH_WINDOW 0x24
#define CAPABILITIES 0x34
#define COMMAND_MEMORY 2
#define COMMAND_MASTER 4
#define COMMAND_INTX_OFF 0x400

#define CAPABILITY_EXPRESS 0x10
#define EXPRESS_CAN_RESET (1u << 28)
#define EXPRESS_RESET (1u << 15)
#define CAPABILITY_MSIX 0x11
#define MSIX_ENABLE 0x8000
#define MSIX_MASK_ALL 0x4000

#define FUNCTIONS_MAX 32

struct window {
  u64 next, end;  // bus addresses
  u64 to_cpu;     // add to a bus address to get the hart's
};

static dt_node host = DT_NONE;
static u64 ecam;
static u32 bus_first, bus_last, bus_next;
static struct window low, high;  // 32-bit and 64-bit memory
static struct pci_function functions[FUNCTIONS_MAX];
static u32 count;

static u64 take(struct window *w, u64 bytes) {
  u64 at = ALIGN_UP(w->next, bytes);
  REQUIRE(at + bytes <= w->end, "no room for a BAR of %lu bytes", bytes);
  w->next = at + bytes;
  return at;
}

static void find_windows(void) {
  u32 bytes;
  const u8 *ranges = dt_property(host, "ranges", &bytes);
  for (u32 i = 0; ranges != NULL && (i + 1) * 28 <= bytes; i++) {
    const u8 *row = ranges + i * 28;
    u64 bus = (u64)dt_cell(row, 1) << 32 | dt_cell(row, 2), cpu = (u64)dt_cell(row, 3) << 32 | dt_cell(row, 4);
    u64 size = (u64)dt_cell(row, 5) << 32 | dt_cell(row, 6);
    struct window w = {bus, bus + size, cpu - bus};
    u32 space = dt_cell(row, 0) >> 24 & 3;
    if (space == 2) low = w;
    if (space == 3) high = w;
  }
}

// Sizes and places the memory BARs. Behind a bridge everything goes into the 32-bit window that bridges forward.
static void place_bars(struct pci_function *f, bool behind_bridge) {
  for (u32 i = 0; i < 6; i++) {
    u64 at = f->config + BAR0 + 4 * i;
    u32 flags = mmio_read32(at);
    mmio_write32(at, 0xffffffff);
    u64 mask = mmio_read32(at);
    if (mask == 0 || (flags & 1) != 0) {
      mmio_write32(at, flags);
      continue;
    }
    bool wide = (flags & 6) == 4;
    mask = (mask & ~15ul) | 0xffffffff00000000ul;
    if (wide) {
      mmio_write32(at + 4, 0xffffffff);
      mask = (mask & 0xffffffff) | (u64)mmio_read32(at + 4) << 32;
    }
    u64 bytes = ~mask + 1;
    struct window *w = wide && !behind_bridge && high.end != 0 ? &high : &low;
    u64 address = take(w, bytes);
    mmio_write32(at, (u32)address);
    if (wide) mmio_write32(at + 4, (u32)(address >> 32));
    f->bar[i] = address + w->to_cpu;
    f->bar_bytes[i] = bytes;
    if (wide) i++;
  }
}

u32 pci_capability(const struct pci_function *f, u8 id) {
  if ((mmio_read16(f->config + COMMAND + 2) & 0x10) == 0) return 0;
  u32 at = mmio_read8(f->config + CAPABILITIES) & ~3u;
  for (u32 i = 0; at >= 0x40 && i < 48; i++, at = mmio_read8(f->config + at + 1) & ~3u)
    if (mmio_read8(f->config + at) == id) return at;
  return 0;
}

static void find_msix(struct pci_function *f) {
  u32 at = f->msix_capability = pci_capability(f, CAPABILITY_MSIX);
  if (at == 0) return;
  // The table may lie in any BAR, and the pending bits in another one.
  u32 table = mmio_read32(f->config + at + 4), pending = mmio_read32(f->config + at + 8);
  if ((table & 7) > 5 || f->bar[table & 7] == 0) return;
  f->msix_entries = (mmio_read16(f->config + at + 2) & 0x7ff) + 1u;
  f->msix_table = f->bar[table & 7] + (table & ~7u);
  f->msix_pending = (pending & 7) > 5 ? 0 : f->bar[pending & 7] + (pending & ~7u);
}

static void scan(u32 bus);

static void open_bridge(u64 config, u32 bus) {
  if (bus_next >= bus_last) return;
  u32 secondary = ++bus_next;
  mmio_write32(config + BUS_NUMBERS, bus_last << 16 | secondary << 8 | bus);
  low.next = ALIGN_UP(low.next, 1 << 20);
  u64 first = low.next;
  scan(secondary);
  low.next = ALIGN_UP(low.next, 1 << 20);
  // A window whose base is above its limit forwards nothing.
  u64 last = low.next == first ? first - 1 : low.next - 1;
  mmio_write32(config + MEMORY_WINDOW, (u32)(last >> 16 & 0xfff0) << 16 | (u32)(first >> 16 & 0xfff0));
  mmio_write32(config + PREFETCH_WINDOW, 0x0000fff0);
  mmio_write32(config + BUS_NUMBERS, bus_next << 16 | secondary << 8 | bus);
  mmio_write16(config + COMMAND, COMMAND_MEMORY | COMMAND_MASTER);
}

static void scan(u32 bus) {
  for (u32 slot = 0; slot < 256; slot++) {
    u64 config = ecam + ((u64)(bus - bus_first) << 20) + ((u64)slot << 12);
    u32 id = mmio_read32(config);
    u8 type = (id & 0xffff) == 0xffff ? 0 : mmio_read8(config + HEADER_TYPE);
    if ((id & 0xffff) == 0xffff) {
      if ((slot & 7) == 0) slot += 7;  // no function 0, no function
      continue;
    }
    if ((type & 0x7f) == 1) {
      open_bridge(config, bus);
    } else if (count < FUNCTIONS_MAX) {
      struct pci_function *f = &functions[count++];
      f->config = config;
      f->rid = bus << 8 | slot;
      f->vendor = (u16)id;
      f->device = (u16)(id >> 16);
      f->class_code = mmio_read32(config + CLASS) >> 8;
      mmio_write16(config + COMMAND, COMMAND_INTX_OFF);
      place_bars(f, bus != bus_first);
      mmio_write16(config + COMMAND, COMMAND_INTX_OFF | COMMAND_MEMORY);
      find_msix(f);
    }
    if ((slot & 7) == 0 && (type & 0x80) == 0) slot += 7;
  }
}

u32 pci_open(void) {
  host = dt_compatible(DT_NONE, "pci-host-ecam-generic");
  if (host == DT_NONE || !dt_reg(host, 0, &ecam, NULL)) return 0;
  const u8 *buses = dt_property(host, "bus-range", NULL);
  bus_next = bus_first = buses == NULL ? 0 : dt_cell(buses, 0);
  bus_last = buses == NULL ? 255 : dt_cell(buses, 1);
  find_windows();
  scan(bus_first);
  return count;
}

u32 pci_count(void) { return count; }
struct pci_function *pci_at(u32 index) { return index < count ? &functions[index] : NULL; }

struct pci_function *pci_find(u16 vendor, u16 device, u32 nth) {
  for (u32 i = 0; i < count; i++)
    if (functions[i].vendor == vendor && functions[i].device == device && nth-- == 0) return &functions[i];
  return NULL;
}

struct pci_function *pci_find_class(u32 class_code, u32 nth) {
  for (u32 i = 0; i < count; i++)
    if (functions[i].class_code == class_code && nth-- == 0) return &functions[i];
  return NULL;
}

void pci_bus_master(const struct pci_function *f, bool on) {
  mmio_write16(f->config + COMMAND, (u16)(COMMAND_INTX_OFF | COMMAND_MEMORY | (on ? COMMAND_MASTER : 0)));
}

u32 pci_extended_capability(const struct pci_function *f, u16 id) {
  u32 at = 0x100;
  for (u32 i = 0; at >= 0x100 && i < 960; i++) {
    u32 header = mmio_read32(f->config + at);
    if (header == 0 || header == 0xffffffff) return 0;
    if ((header & 0xffff) == id) return at;
    at = header >> 20 & 0xffc;
  }
  return 0;
}

bool pci_function_reset(const struct pci_function *f) {
  u32 at = pci_capability(f, CAPABILITY_EXPRESS);
  if (at == 0 || (mmio_read32(f->config + at + 4) & EXPRESS_CAN_RESET) == 0) return false;
  u32 bar[6];
  for (u32 i = 0; i < 6; i++) bar[i] = mmio_read32(f->config + BAR0 + 4 * i);
  mmio_write16(f->config + COMMAND, COMMAND_INTX_OFF);
  mmio_write16(f->config + at + 8, mmio_read16(f->config + at + 8) | EXPRESS_RESET);
  delay_microseconds(100000);
  for (u32 i = 0; i < 6; i++) mmio_write32(f->config + BAR0 + 4 * i, bar[i]);
  mmio_write16(f->config + COMMAND, COMMAND_INTX_OFF | COMMAND_MEMORY);
  return true;
}

void msix_route(const struct pci_function *f, u32 entry, u64 address, u32 data) {
  u64 row = f->msix_table + 16 * entry;
  mmio_write32(row + 12, 1);
  mmio_write32(row, (u32)address);
  mmio_write32(row + 4, (u32)(address >> 32));
  mmio_write32(row + 8, data);
  mmio_write32(row + 12, 0);
}

void msix_on(const struct pci_function *f) {
  u64 control = f->config + f->msix_capability + 2;
  mmio_write16(control, (u16)((mmio_read16(control) & ~MSIX_MASK_ALL) | MSIX_ENABLE));
}

bool pci_iommu_id(const struct pci_function *f, u32 *phandle, u32 *device_id) {
  u32 bytes;
  const u8 *map = dt_property(host, "iommu-map", &bytes);
  u32 rid = f->rid & (dt_u32(host, "iommu-map-mask", 0xffff));
  for (u32 i = 0; map != NULL && (i + 1) * 16 <= bytes; i++) {
    u32 first = dt_cell(map, 4 * i), length = dt_cell(map, 4 * i + 3);
    if (rid < first || rid - first >= length) continue;
    *phandle = dt_cell(map, 4 * i + 1);
    *device_id = rid - first + dt_cell(map, 4 * i + 2);
    return true;
  }
  return false;
}
