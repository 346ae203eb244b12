// Reads from the NVMe disk with polled completions, through the IOMMU's page tables and past them.
// Boot arguments: block=4K depth=8 mib=32 scattered=1; without block and depth a few pairs are measured.
#include "clock.h"
#include "iommu.h"
#include "machine.h"
#include "nvme.h"
#include "program.h"

#define MIB (1ul << 20)
// Buffers of one run: block times depth.
#define BUFFER_MAX (4 * MIB)

enum mode { MODE_IOMMU, MODE_BYPASS, MODE_NONE };
static const char *const mode_names[] = {"iommu", "bypass", "none"};

static struct nvme nvme;
static struct dma_space space;
static u64 mib;

static void run(enum mode mode, u64 block, u64 depth) {
  block = MIN(block, nvme.transfer_bytes);
  REQUIRE(block >= nvme.block_bytes && block % nvme.block_bytes == 0, "block=%lu is no multiple of the disk's block",
          block);
  depth = MIN(depth, nvme.queue[1].entries - 1);
  REQUIRE(depth > 0 && block * depth <= BUFFER_MAX, "block=%lu times depth=%lu is more than %lu", block, depth,
          BUFFER_MAX);
  u64 slot_pages = ALIGN_UP(block, PAGE_BYTES) / PAGE_BYTES, disk_bytes = nvme.blocks * nvme.block_bytes;
  u64 spots = disk_bytes / block, commands = mib * MIB / block;
  REQUIRE(spots > 0, "the disk is smaller than one block of %lu", block);
  struct dma_buffer buffer;
  dma_buffer_open(&buffer, &space, (u32)(slot_pages * depth));
  print("bench: event=begin name=nvme mode=%s block=%lu depth=%lu\n", mode_names[mode], block, depth);
  u64 instructions = instructions_retired(), ticks = clock_now();
  for (u64 i = 0; i < commands; i++)
    nvme_start(&nvme, 1, NVME_READ, i % spots * block, &buffer, i % depth * slot_pages * PAGE_BYTES, block, (u32)depth);
  u16 status = nvme_drain(&nvme, 1);
  instructions = instructions_retired() - instructions;
  ticks = clock_now() - ticks;
  REQUIRE(status == NVME_SUCCESS, "a read ended with status 0x%x", status);
  print("bench: event=end name=nvme mode=%s block=%lu depth=%lu commands=%lu bytes=%lu instructions=%lu ticks=%lu\n",
        mode_names[mode], block, depth, commands, commands * block, instructions, ticks);
  dma_buffer_close(&buffer);
}

static void measure(enum mode mode, struct pci_function *f) {
  if (mode == MODE_IOMMU)
    dma_space_open(&space, "nvme", f, 0x1000000000);
  else
    dma_space_open_bare(&space, "nvme", f);
  // The same memory in both modes, so that they differ by the IOMMU alone; scattered=1 takes single pages behind it.
  space.together = argument("scattered", 0) == 0;
  const char *wrong = nvme_open(&nvme, f, &space, 1, true);
  REQUIRE(wrong == NULL, "%s", wrong);
  u64 block = argument("block", 0), depth = argument("depth", 0);
  if (block != 0 || depth != 0) {
    run(mode, block == 0 ? 4096 : block, depth == 0 ? 8 : depth);
  } else {
    run(mode, 4096, 1);
    run(mode, 4096, 32);
    run(mode, 128ul << 10, 8);
  }
  nvme_close(&nvme);
}

void program(void) {
  machine_open();
  mib = argument("mib", 32);
  pci_open();
  struct pci_function *f = pci_find_class(NVME_CLASS, 0);
  REQUIRE(f != NULL, "there is no NVMe controller");
  if (iommu_open()) {
    measure(MODE_IOMMU, f);
    measure(MODE_BYPASS, f);
  } else {
    print("no IOMMU: only guest-physical addresses are measured\n");
    measure(MODE_NONE, f);
  }
}
