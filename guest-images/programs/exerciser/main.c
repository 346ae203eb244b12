// Drives the exerciser through the IOMMU: every operation, PASIDs, translation requests and page requests.
#include "clock.h"
#include "iommu.h"
#include "machine.h"
#include "parts.h"
#include "program.h"

struct exerciser x;
static u32 checks;

struct exerciser_completion expect(const char *name, struct exerciser_descriptor descriptor, u32 status) {
  struct exerciser_completion c = exerciser_run(&x, descriptor);
  REQUIRE(c.status == status, "%s: %s at byte %u, not %s", name, exerciser_status_name(c.status), c.fault_offset,
          exerciser_status_name(status));
  checks++;
  return c;
}

void expect_fault(u64 iova, u32 cause) {
  struct iommu_fault f;
  REQUIRE(iommu_wait_fault(&f, 100), "no fault record for 0x%lx", iova);
  print("fault: cause=%u (%s) did=0x%x iova=0x%lx ttyp=%u\n", f.cause, iommu_cause_name(f.cause), f.device_id, f.iotval,
        f.transaction);
  REQUIRE(f.device_id == x.function->rid, "the fault names device 0x%x", f.device_id);
  REQUIRE(f.iotval / PAGE_BYTES == iova / PAGE_BYTES, "the fault is at 0x%lx, not 0x%lx", f.iotval, iova);
  REQUIRE(cause == 0 || f.cause == cause, "the fault has cause %u, not %u", f.cause, cause);
  while (iommu_take_fault(&f));
}

void program(void) {
  machine_open();
  REQUIRE(pci_open() > 0, "no PCI function was found");
  struct pci_function *f = pci_find(EXERCISER_VENDOR, EXERCISER_DEVICE, 0);
  REQUIRE(f != NULL, "the machine has no exerciser");
  REQUIRE(iommu_open(), "the machine has no IOMMU");
  step("bring up the exerciser at device id 0x%x", f->rid);
  const char *wrong = exerciser_open(&x, f, 8);
  REQUIRE(wrong == NULL, "%s", wrong);
  operations_part();
  processes_part();
  translations_part();
  pages_part();
  struct iommu_fault fault;
  REQUIRE(!iommu_take_fault(&fault), "unexpected fault: cause %u at 0x%lx", fault.cause, fault.iotval);
  print("checks: transactions=%u\n", checks);
}
