#include "clock.h"
#include "parts.h"
#include "program.h"
#include "trap.h"

#define CONFIG_WORDS 1024u
#define CONFIG_COMMAND 1u  // the word that holds the command register

// IOMMU registers.
#define DDTP 0x10
#define CQCSR 0x48
#define FQCSR 0x4c
#define PQCSR 0x50
#define IPSR 0x54
#define MSI_CFG_TBL 0x300

// NVMe registers.
#define CC 0x14

// NIC registers.
#define CTRL 0x0000
#define IMC 0x00d8
#define RCTL 0x0100
#define TCTL 0x0400
#define CTRL_RESET (1u << 26)

void config_part(u32 count) {
  static u32 saved[CONFIG_WORDS];
  for (u32 index = 0; index < pci_count(); index++) {
    const struct pci_function *f = pci_at(index);
    for (u32 i = 0; i < CONFIG_WORDS; i++) saved[i] = mmio_read32(f->config + 4 * i);
    // The header with the BARs and the capabilities more often than the extended space.
    poke(f->config, 256, count);
    poke(f->config, 4096, count / 2);
    delay_microseconds(200);  // a function-level reset may have been asked for
    for (u32 round = 0; round < 2; round++)
      for (u32 i = CONFIG_WORDS; i-- > 0;)
        if (i != CONFIG_COMMAND) mmio_write32(f->config + 4 * i, saved[i]);
    mmio_write32(f->config + 4 * CONFIG_COMMAND, saved[CONFIG_COMMAND] | 0xffff0000);
    pci_bus_master(f, false);
    REQUIRE(mmio_read32(f->config) == saved[0], "function %x lost its identity", f->rid);
  }
}

static void quiet(u64 registers) {
  // A busy bit may refuse one write; each queue and the directory are switched off until they are off.
  for (u32 i = 0; i < 1000; i++) {
    mmio_write32(registers + CQCSR, 0xf00);
    mmio_write32(registers + FQCSR, 0x300);
    mmio_write32(registers + PQCSR, 0x300);
    mmio_write64(registers + DDTP, 0);
    u32 on = (mmio_read32(registers + CQCSR) | mmio_read32(registers + FQCSR) | mmio_read32(registers + PQCSR)) >> 16;
    if ((on & 3) == 0 && (mmio_read64(registers + DDTP) & 0x1f) == 0) break;
  }
  // There are as many vectors as the IOMMU likes; the rest may trap.
  trap_forgive();
  for (u32 i = 0; i < 16; i++) mmio_write32(registers + MSI_CFG_TBL + 16 * i + 12, 1);
  trap_forgive_end();
  mmio_write32(registers + IPSR, 0xf);
}

void iommu_registers_part(u64 registers, u32 count) {
  poke(registers, 4096, count);
  // Again where the registers are dense.
  poke(registers, 0x58, count);
  quiet(registers);
}

void nvme_registers_part(const struct pci_function *f, u32 count) {
  for (u32 round = 0; round < 4; round++) {
    pci_bus_master(f, round & 1);
    poke(f->bar[0], f->bar_bytes[0], count / 4);
    poke(f->bar[0], 0x40, count / 4);
    poke(f->bar[0] + 0x1000, 0x80, count / 4);
  }
  mmio_write32(f->bar[0] + CC, 0);
  delay_microseconds(1000);
  pci_bus_master(f, false);
}

// A ring with garbage in it, of any length, wherever it is.
static void wild_ring(u64 registers, u32 ring, u64 device_arena) {
  u64 base = below(4) == 0 ? wild_address() : device_arena + below(ARENA_PAGES) * PAGE_BYTES;
  mmio_write32(registers + ring, (u32)base);
  mmio_write32(registers + ring + 4, (u32)(base >> 32));
  mmio_write32(registers + ring + 8, below(3) == 0 ? (u32)wild() : 128 * (1 + below(32)));
  mmio_write32(registers + ring + 0x10, below(2048));
  mmio_write32(registers + ring + 0x18, below(2048));
}

void nic_part(const struct pci_function *f, u64 device_arena, u32 count) {
  u64 registers = f->bar[0];
  for (u32 round = 0; round < 8; round++) {
    pci_bus_master(f, true);
    poke(registers, f->bar_bytes[0], count / 8);
    poke(registers, 0x4000, count / 8);
    for (u32 i = 0; i < ARENA_PAGES * PAGE_BYTES / 8; i++) ((u64 *)arena)[i] = below(3) == 0 ? wild_address() : wild();
    wild_ring(registers, 0x2800, device_arena);
    wild_ring(registers, 0x3800, device_arena);
    mmio_write32(registers + RCTL, (u32)wild() | 2);
    mmio_write32(registers + TCTL, (u32)wild() | 2);
    mmio_write32(registers + 0x3818, below(2048));
    mmio_write32(registers + 0x2818, below(2048));
    delay_microseconds(200);
    mmio_write32(registers + IMC, 0xffffffff);
    mmio_write32(registers + CTRL, CTRL_RESET);
    delay_microseconds(100);
  }
  if (f->msix_table != 0) poke(f->msix_table, 16 * f->msix_entries, count / 4);
  pci_bus_master(f, false);
}
