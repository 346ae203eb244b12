#include "device-tree.h"
#include "iommu.h"
#include "imsic.h"
#include "pages.h"
#include "parts.h"
#include "prng.h"
#include "program.h"
#include "trap.h"

u64 arena, accesses, trapped;
static u64 state;

static u64 random(void) {
  if (state == 0) state = argument("seed", 0x9e3779b97f4a7c15) | 1;
  return xorshift64(&state);
}

u32 below(u32 limit) { return (u32)((random() >> 16) % limit); }

u64 wild_address(void) {
  u64 inside = arena + random() % (ARENA_PAGES * PAGE_BYTES);
  switch (below(8)) {
    case 0:
    case 1:
      return inside & ~(PAGE_BYTES - 1);
    case 2:
      return inside;
    case 3:
      return 0;
    case 4:
      return random() | 1ul << 55;
    case 5:
      return imsic_address() + (random() & 0xfff);
    case 6:
      return 0x4000000000 + (random() & 0xffffff000);
    default:
      return iommu_present() ? iommu_registers() + (random() & 0xff8) : 0xfffffffffffff000;
  }
}

u64 wild(void) {
  switch (below(8)) {
    case 0:
      return 0;
    case 1:
      return ~0ul;
    case 2:
      return below(32);
    case 3:
      return 1ul << below(64);
    case 4:
      return wild_address() >> 12 << 10 | below(1024);
    default:
      // Bit 63 … 36 are never all zero, so that no base register made of this points at the program.
      return random() | 1ul << (36 + below(20));
  }
}

void poke(u64 base, u64 bytes, u32 count) {
  trap_forgive();
  for (u32 i = 0; i < count; i++) {
    u32 width = 1u << below(4);
    u64 at = base + random() % bytes, value = wild();
    // Three of four are aligned: a device sees nothing of the others.
    if (below(4) != 0) at &= ~(u64)(width - 1);
    if (at + width > base + bytes) continue;
    accesses++;
    bool writes = below(4) != 0;
    if (width == 1) writes ? mmio_write8(at, (u8)value) : (void)mmio_read8(at);
    if (width == 2) writes ? mmio_write16(at, (u16)value) : (void)mmio_read16(at);
    if (width == 4) writes ? mmio_write32(at, (u32)value) : (void)mmio_read32(at);
    if (width == 8) writes ? mmio_write64(at, value) : (void)mmio_read64(at);
  }
  trapped += trap_forgive_end();
}
