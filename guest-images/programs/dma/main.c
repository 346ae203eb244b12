// The main job: finds the devices, brings up the IOMMU, lets an NVMe controller and two NICs do DMA through it, takes
// a page away from one of them, and reads the fault. Whatever part the machine lacks is said and left out.
#include "clock.h"
#include "imsic.h"
#include "iommu.h"
#include "machine.h"
#include "parts.h"
#include "program.h"

#define IO_QUEUES 2
// The NICs' address spaces begin at the same IOVA: their PSCIDs keep them apart.
#define NVME_IOVA 0x1000000000ul
#define NIC_IOVA 0x2000000000ul

static struct dma_space nvme_space, nic_space[2];
static struct nvme nvme;
static struct nic nic[2];

static void show_functions(void) {
  for (u32 i = 0; i < pci_count(); i++) {
    struct pci_function *f = pci_at(i);
    print("  %02x:%02x.%u %04x:%04x class %06x", f->rid >> 8, f->rid >> 3 & 31, f->rid & 7, f->vendor, f->device,
          f->class_code);
    for (u32 bar = 0; bar < 6; bar++)
      if (f->bar[bar] != 0) print(", BAR%u 0x%lx +0x%lx", bar, f->bar[bar], f->bar_bytes[bar]);
    if (f->msix_entries != 0) print(", MSI-X %u", f->msix_entries);
    print("\n");
  }
}

static bool open_nvme(void) {
  struct pci_function *f = pci_find_class(NVME_CLASS, 0);
  if (f == NULL) {
    print("no NVMe controller: the disk part is left out\n");
    return false;
  }
  step("bring up the NVMe controller at device id 0x%x with %u I/O queues", f->rid, IO_QUEUES);
  dma_space_open(&nvme_space, "nvme", f, NVME_IOVA);
  const char *wrong = nvme_open(&nvme, f, &nvme_space, IO_QUEUES, false);
  REQUIRE(wrong == NULL, "%s", wrong);
  print("nvme: model=\"%s\" serial=\"%s\" blocks=%lu of %u bytes, MSIs go to IOVA 0x%lx\n", nvme.model, nvme.serial,
        nvme.blocks, nvme.block_bytes, dma_msi_address(&nvme_space));
  return true;
}

static bool open_nics(void) {
  static const char *const names[2] = {"nic0", "nic1"};
  if (pci_find(NIC_VENDOR, NIC_DEVICE, 1) == NULL) {
    print("fewer than two 82574L NICs: the frames are left out\n");
    return false;
  }
  for (u32 i = 0; i < 2; i++) {
    struct pci_function *f = pci_find(NIC_VENDOR, NIC_DEVICE, i);
    step("bring up %s at device id 0x%x", names[i], f->rid);
    dma_space_open(&nic_space[i], names[i], f, NIC_IOVA);
    const char *wrong = nic_open(&nic[i], names[i], f, &nic_space[i]);
    REQUIRE(wrong == NULL, "%s", wrong);
    const u8 *m = nic[i].mac;
    print("%s: address %02x:%02x:%02x:%02x:%02x:%02x, link up\n", names[i], m[0], m[1], m[2], m[3], m[4], m[5]);
  }
  return true;
}

void program(void) {
  u64 instructions = instructions_retired(), ticks = clock_now();
  machine_open();
  step("scan PCI Express through ECAM and place the BARs");
  REQUIRE(pci_open() > 0, "no PCI function was found");
  show_functions();

  step("bring up the IOMMU: 3-level device directory, command and fault queue");
  if (iommu_open())
    print("iommu: capabilities 0x%lx, %u-byte device contexts\n", iommu_capabilities(), iommu_context_words() * 8);
  else
    print("no IOMMU: the devices use guest-physical addresses, the fault part is left out\n");

  bool has_nvme = open_nvme();
  bool has_nics = open_nics();
  if (has_nvme) disk_part(&nvme);
  if (has_nics) frames_part(&nic[0], &nic[1]);
  if (has_nvme && nvme_space.translated) faults_part(&nvme, has_nics ? &nic[0] : NULL, has_nics ? &nic[1] : NULL);

  print("interrupts: nvme=%lu", nvme.interrupts);
  for (u32 i = 0; has_nics && i < 2; i++)
    print(" %s_rx=%lu %s_tx=%lu", nic[i].name, nic[i].rx_interrupts, nic[i].name, nic[i].tx_interrupts);
  print(" iommu_fault=%u external=%lu\n", iommu_fault_interrupts(), imsic_count());
  print("effort: instructions=%lu microseconds=%lu\n", instructions_retired() - instructions,
        (clock_now() - ticks) * 1000 / (clock_rate() / 1000));
  if (has_nvme) nvme_close(&nvme);
  for (u32 i = 0; has_nics && i < 2; i++) nic_close(&nic[i]);
}
