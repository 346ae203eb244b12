// Drives the features of two 82574L NICs on one wire, through the IOMMU, and checks every byte.
#include "device-tree.h"
#include "iommu.h"
#include "machine.h"
#include "parts.h"
#include "program.h"

#define NIC_IOVA 0x2000000000ul

struct nic a, b;
bool is_qemu;
static struct dma_space spaces[2];

u32 get(const struct nic *nic, u32 offset) { return mmio_read32(nic->registers + offset); }
void set(const struct nic *nic, u32 offset, u32 value) { mmio_write32(nic->registers + offset, value); }

void program(void) {
  machine_open();
  REQUIRE(pci_open() > 0, "no PCI function was found");
  bool has_iommu = iommu_open();
  struct nic *nics[2] = {&a, &b};
  for (u32 i = 0; i < 2; i++) {
    struct pci_function *f = pci_find(NIC_VENDOR, NIC_DEVICE, i);
    REQUIRE(f != NULL, "the machine has fewer than two 82574L NICs");
    step("bring up %s at device id 0x%x", i ? "b" : "a", f->rid);
    dma_space_open(&spaces[i], i ? "b" : "a", f, NIC_IOVA);
    const char *wrong = nic_open(nics[i], i ? "b" : "a", f, &spaces[i]);
    REQUIRE(wrong == NULL, "%s", wrong);
  }
  print("nics: iommu=%s\n", has_iommu && spaces[0].translated ? "on" : "none");
  const char *model = (const char *)dt_property(dt_root(), "model", NULL);
  is_qemu = model != NULL && strcmp(model, "riscv-virtio,qemu") == 0;
  counters_part();
  offload_part();
  vlan_part();
  filters_part();
  scaling_part();
  formats_part();
  link_part();
  struct iommu_fault fault;
  REQUIRE(!iommu_take_fault(&fault), "unexpected fault: cause %u at 0x%lx", fault.cause, fault.iotval);
  nic_close(&a);
  nic_close(&b);
}
