#include "clock.h"
#include "dma.h"
#include "iommu.h"
#include "parts.h"
#include "program.h"

// IOMMU registers.
#define DDTP 0x10
#define CQB 0x18
#define CQH 0x20
#define CQT 0x24
#define FQB 0x28
#define FQH 0x30
#define FQT 0x34
#define CQCSR 0x48
#define FQCSR 0x4c
#define IPSR 0x54
#define MSI_CFG_TBL 0x300

// NVMe registers.
#define CC 0x14
#define CSTS 0x1c
#define AQA 0x24
#define ASQ 0x28
#define ACQ 0x30
#define DOORBELLS 0x1000

static u64 arena_page(u32 index) { return arena + index % ARENA_PAGES * PAGE_BYTES; }

// A directory or page-table entry: often valid, pointing into the arena (so that walks go round in it) or anywhere.
static u64 wild_entry(void) {
  if (below(4) == 0) return wild();
  u64 target = below(4) == 0 ? wild_address() : arena_page(below(ARENA_PAGES));
  return (target >> 12 << 10) | below(1024) | (below(4) != 0);
}

static void wild_tables(void) {
  for (u32 i = 0; i < ARENA_PAGES * PAGE_BYTES / 8; i++) ((u64 *)arena)[i] = wild_entry();
}

// A device context at every place of a leaf: valid, with modes and roots that make no sense.
static void wild_contexts(u32 page) {
  u64 *words = (u64 *)arena_page(page);
  for (u32 i = 0; i < PAGE_BYTES / 8; i += 4) {
    words[i] = below(8) == 0 ? wild() : 1 | (below(4) == 0 ? below(4096) : 0);
    words[i + 1] = below(2) == 0 ? 0 : (u64)below(16) << 60 | wild_address() >> 12;
    words[i + 2] = below(4) == 0 ? wild() : (u64)below(1 << 20) << 12;
    words[i + 3] = below(8) == 0 ? wild() : (u64)below(16) << 60 | arena_page(below(ARENA_PAGES)) >> 12;
  }
}

// An NVMe controller that fetches its admin queue through whatever the IOMMU now has, is as good a victim as any.
static void stir(const struct pci_function *nvme) {
  if (nvme == NULL) return;
  u64 registers = nvme->bar[0];
  pci_bus_master(nvme, true);
  mmio_write32(registers + CC, 0);
  mmio_write32(registers + AQA, 31u << 16 | 31);
  mmio_write64(registers + ASQ, (u64)below(1 << 20) << 12);
  mmio_write64(registers + ACQ, (u64)below(1 << 20) << 12);
  mmio_write32(registers + CC, 4u << 20 | 6u << 16 | 1);
  delay_microseconds(20);
  mmio_write32(registers + DOORBELLS, 1 + below(31));
  delay_microseconds(20);
  mmio_write32(registers + CC, 0);
}

static u64 wild_command(void) {
  // Mostly an opcode and function that exist, with any operands.
  u64 word = below(4) == 0 ? wild() : (wild() & ~0x3fful) | 1 + below(4) | (u64)below(2) << 7;
  // An illegal command stops the queue, so let some be almost right.
  return below(2) == 0 ? word & 0xffffff07fffff7ff : word;
}

void iommu_tables_part(u64 registers, u32 rounds) {
  const struct pci_function *nvme = pci_find_class(NVME_CLASS, 0);
  for (u32 round = 0; round < rounds; round++) {
    wild_tables();
    u64 *queue = (u64 *)arena_page(0);
    for (u32 i = 0; i < PAGE_BYTES / 8; i += 2) {
      queue[i] = wild_command();
      queue[i + 1] = below(2) == 0 ? wild_address() >> 2 : wild();
    }
    mmio_write32(registers + CQCSR, 0);
    mmio_write32(registers + FQCSR, 0);
    mmio_write64(registers + CQB, arena_page(0) >> 2 | (below(4) == 0 ? below(32) : 7));
    mmio_write64(registers + FQB, arena_page(1) >> 2 | (below(4) == 0 ? below(32) : 6));
    mmio_write32(registers + CQT, 0);
    mmio_write32(registers + FQH, 0);
    mmio_write32(registers + CQCSR, 1);
    mmio_write32(registers + FQCSR, 1);
    for (u32 i = 0; i < 3; i++) wild_contexts(2 + i);
    // A directory of one, two or three levels whose entries lead to those contexts, or not.
    for (u32 i = 0; i < 512 && below(4) != 0; i++) ((u64 *)arena_page(5))[i] = arena_page(2 + below(5)) >> 2 | 1;
    mmio_write64(registers + DDTP, arena_page(below(8)) >> 2 | below(6));
    for (u32 i = 0; i < 24; i++) {
      mmio_write32(registers + CQT, below(300));
      // Clears cmd_ill and its kind, so that the next doorbell is looked at again; the command in the way is replaced.
      u32 head = mmio_read32(registers + CQH) & 0xff;
      queue[2 * head] = wild_command();
      mmio_write32(registers + CQCSR, 0xf01);
      if (below(4) == 0) mmio_write32(registers + FQH, below(200));
      if (below(4) == 0) mmio_write32(registers + FQCSR, 0x301);
      stir(i < 8 ? nvme : NULL);
    }
  }
  if (nvme != NULL) pci_bus_master(nvme, false);
  iommu_registers_part(registers, 0);
}

void nvme_commands_part(const struct pci_function *f, u64 device_arena, u32 rounds) {
  static const u8 opcodes[] = {0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x10, 0x11, 0xff};
  u64 registers = f->bar[0];
  pci_bus_master(f, true);
  for (u32 round = 0; round < rounds; round++) {
    mmio_write32(registers + CC, 0);
    for (u32 i = 0; i < 1000 && (mmio_read32(registers + CSTS) & 1) != 0; i++);
    u64 *queue = (u64 *)arena_page(0);
    for (u32 i = 0; i < PAGE_BYTES / 8; i += 8) {
      u8 opcode = below(4) == 0 ? (u8)wild() : opcodes[below(LENGTH(opcodes))];
      queue[i] = opcode | (below(4) == 0 ? wild() & 0xff00 : 0) | (u64)below(65536) << 16 | (u64)below(3) << 32;
      for (u32 word = 1; word < 8; word++)
        queue[i + word] = below(2) == 0 ? device_arena + below(ARENA_PAGES * PAGE_BYTES) : wild();
      // Words 10 and 11: Identify's and the queues' operands are small numbers.
      if (below(2) == 0) queue[i + 5] = below(8) | (u64)below(64) << 16 | (u64)below(4) << 32;
    }
    mmio_write32(registers + AQA, 63u << 16 | 63);
    mmio_write64(registers + ASQ, device_arena);
    mmio_write64(registers + ACQ, device_arena + PAGE_BYTES);
    mmio_write32(registers + CC, 4u << 20 | 6u << 16 | 1);
    for (u32 i = 0; i < 100000 && (mmio_read32(registers + CSTS) & 3) == 0; i++);
    mmio_write32(registers + DOORBELLS, below(8) == 0 ? below(100) : 63);
    delay_microseconds(300);
    for (u32 i = 0; i < 8; i++) mmio_write32(registers + DOORBELLS + 4 * below(8), below(80));
    delay_microseconds(100);
  }
  mmio_write32(registers + CC, 0);
  delay_microseconds(500);
  pci_bus_master(f, false);
}
