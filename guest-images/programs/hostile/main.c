// Writes nonsense wherever a guest can write, and then uses the same machine properly: the VMM must live, and must not
// have been talked into anything. The disk is scratch: garbage commands may write to it.
#include "clock.h"
#include "crc32.h"
#include "iommu.h"
#include "machine.h"
#include "pages.h"
#include "parts.h"
#include "program.h"

#define COUNT 1500u
#define ROUNDS 12u
#define ARENA_IOVA 0x4000000000ul

#define WITNESSES 64u
#define WITNESS 0xa7

extern u8 _start[], __constant_end[];
static u64 witness[WITNESSES];

// What no garbage may change: the program's code and constants, and pages that no device was shown.
static u32 bystanders(void) {
  u32 crc = crc32(0, _start, (u64)(__constant_end - _start));
  for (u32 i = 0; i < WITNESSES; i++) crc = crc32(crc, (u8 *)witness[i], PAGE_BYTES);
  return crc;
}

static bool command_interrupt_came(void *context) { return iommu_command_interrupts() != (u32)(u64)context; }

// An illegal command stops the command queue, which says so by its interrupt; the handler sets it going again.
static void recover_from_illegal_command(void) {
  step("give the IOMMU one illegal command and recover");
  u64 before = iommu_command_interrupts();
  iommu_command(0x3f, 0);
  REQUIRE(wait_until(command_interrupt_came, (void *)before, 1000), "an illegal command raised no interrupt");
  REQUIRE(iommu_fence(), "the command queue does not go on after an illegal command");
}

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
  if (iommu_present()) {
    iommu_open();
    recover_from_illegal_command();
  }
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
  for (u32 i = 0; i < WITNESSES; i++) {
    witness[i] = page_take();
    memset((void *)witness[i], WITNESS, PAGE_BYTES);
  }
  u32 innocent = bystanders();
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
  REQUIRE(bystanders() == innocent, "memory changed that no device was shown");
  use_properly();
}
