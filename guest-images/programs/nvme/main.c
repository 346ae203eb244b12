// Drives every feature of an NVMe controller through the IOMMU and checks the data: the disk is scratch.
#include "clock.h"
#include "iommu.h"
#include "machine.h"
#include "parts.h"
#include "program.h"

#define IOVA 0x1000000000ul
#define IO_QUEUES 4

struct nvme nvme;
struct dma_space space;
struct dma_buffer data;
bool is_qemu;
u32 sgl_support;
static u32 checks;

u32 expect(const char *name, u32 queue, struct nvme_command command, u16 status) {
  u32 result = 0;
  u16 got = nvme_run(&nvme, queue, &command, &result);
  REQUIRE(got == status, "%s: status 0x%03x, not 0x%03x", name, got, status);
  checks++;
  return result;
}

void open_controller(void) {
  const char *wrong = nvme_open(&nvme, nvme.function, &space, IO_QUEUES, false);
  REQUIRE(wrong == NULL, "%s", wrong);
}

void program(void) {
  machine_open();
  REQUIRE(pci_open() > 0, "no PCI function was found");
  bool has_iommu = iommu_open();
  nvme.function = pci_find_class(NVME_CLASS, 0);
  REQUIRE(nvme.function != NULL, "the machine has no NVMe controller");
  step("bring up the NVMe controller at device id 0x%x with %u I/O queue pairs", nvme.function->rid, IO_QUEUES);
  dma_space_open(&space, "nvme", nvme.function, IOVA);
  open_controller();
  is_qemu = strncmp(nvme.model, "QEMU", 4) == 0;
  print("nvme: model=\"%s\" blocks=%lu block_bytes=%u queues=%u transfer=%u iommu=%s\n", nvme.model, nvme.blocks,
        nvme.block_bytes, nvme.io_queues, nvme.transfer_bytes, has_iommu && space.translated ? "on" : "none");
  REQUIRE(nvme.io_queues == IO_QUEUES, "only %u I/O queues of %u", nvme.io_queues, IO_QUEUES);
  dma_buffer_open(&data, &space, 1);

  identify_part();
  features_part();
  logs_part();
  blocks_part();
  lists_part();
  malformed_part();
  events_part();
  queues_part();
  format_part();
  life_part();

  struct iommu_fault fault;
  REQUIRE(!iommu_take_fault(&fault), "unexpected fault: cause %u at 0x%lx", fault.cause, fault.iotval);
  print("checks: commands=%u interrupts=%lu\n", checks, nvme.interrupts);
  nvme_close(&nvme);
}
