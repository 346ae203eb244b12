// Writes nonsense wherever a guest can write, and then uses the same machine properly: the VMM must live, and must not
// have been talked into anything. The disk is scratch: garbage commands may write to it.
#include "clock.h"
#include "iommu.h"
#include "machine.h"
#include "pages.h"
#include "parts.h"
#include "program.h"

#define COUNT 1500u
#define ROUNDS 12u
#define ARENA_IOVA 0x4000000000ul

// Lets the function see the arena, and nothing else, when there is an IOMMU. Returns where it sees it.
static u64 show_arena(struct dma_space *space, const struct pci_function *f) {
  dma_space_open(space, "hostile", f, ARENA_IOVA);
  if (!space->translated) return arena;
  for (u32 i = 0; i < ARENA_PAGES; i++) dma_map(space, ARENA_IOVA + i * PAGE_BYTES, arena + i * PAGE_BYTES);
  iommu_invalidate_space(space->pscid);
  return ARENA_IOVA;
}

static void use_properly(void) {
  static struct dma_space space;
  static struct nvme nvme;
  struct dma_buffer buffer;
  struct pci_function *f = pci_find_class(NVME_CLASS, 0);
  if (f == NULL) {
    print("no NVMe controller: the good read is left out\n");
    return;
  }
  step("bring up IOMMU and NVMe as they should be, and read");
  if (iommu_present()) iommu_open();
  dma_space_open(&space, "nvme", f, 0x1000000000);
  const char *wrong = nvme_open(&nvme, f, &space, 1, false);
  REQUIRE(wrong == NULL, "%s", wrong);
  dma_buffer_open(&buffer, &space, 32);
  u16 status = nvme_wait(&nvme, 1, nvme_start(&nvme, 1, NVME_READ, 0, &buffer, 0, 32 * PAGE_BYTES, 1));
  REQUIRE(status == NVME_SUCCESS, "the good read ended with status 0x%x", status);
  REQUIRE(nvme.interrupts != 0, "the good read raised no interrupt");
  print("good read: bytes=%lu crc32=0x%08x\n", 32 * PAGE_BYTES, dma_crc32(&buffer, 0, 32 * PAGE_BYTES));
  nvme_close(&nvme);
}

void program(void) {
  machine_open();
  arena = pages_take_together(ARENA_PAGES);
  u32 count = (u32)argument("count", COUNT), rounds = (u32)argument("rounds", ROUNDS);
  REQUIRE(pci_open() > 0, "no PCI function was found");
  bool has_iommu = iommu_open();

  step("write nonsense into the PCI configuration space");
  config_part(count);
  if (has_iommu) {
    step("write nonsense into the IOMMU's registers");
    iommu_registers_part(iommu_registers(), count);
    step("give the IOMMU garbage commands, wild directories and page tables");
    iommu_tables_part(iommu_registers(), rounds);
    iommu_open();
  } else {
    print("no IOMMU: its part is left out\n");
  }
  for (u32 i = 0; i < pci_count(); i++) {
    static struct dma_space space;
    const struct pci_function *f = pci_at(i);
    if (f->class_code == NVME_CLASS) {
      u64 device_arena = show_arena(&space, f);
      step("write nonsense into the NVMe controller's registers and doorbells");
      nvme_registers_part(f, count);
      step("give the NVMe controller garbage commands");
      nvme_commands_part(f, device_arena, rounds);
    }
    if (f->vendor == NIC_VENDOR && f->device == NIC_DEVICE) {
      u64 device_arena = show_arena(&space, f);
      step("write nonsense into the NIC at device id 0x%x", f->rid);
      nic_part(f, device_arena, count);
    }
  }
  struct iommu_fault fault;
  u32 faults = 0;
  while (iommu_take_fault(&fault)) faults++;
  print("nonsense: accesses=%lu trapped=%lu faults=%u\n", accesses, trapped, faults);
  use_properly();
}
