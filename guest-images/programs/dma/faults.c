#include "iommu.h"
#include "parts.h"
#include "program.h"

#define CANARY 0xc5
#define READ_PAGE_FAULT 13u
#define WRITE_PAGE_FAULT 15u
#define UNTRANSLATED_READ 2u
#define UNTRANSLATED_WRITE 3u

static void fill(const struct dma_buffer *page) { memset(dma_pointer(page, 0), CANARY, PAGE_BYTES); }

static bool untouched(const struct dma_buffer *page) {
  const u8 *bytes = dma_pointer(page, 0);
  for (u32 i = 0; i < PAGE_BYTES; i++)
    if (bytes[i] != CANARY) return false;
  return true;
}

// Waits for the fault interrupt, whose handler collects the records, and checks every one that has come: all must be
// this device's, on this page.
static void expect_fault(const struct dma_space *space, u64 iova, u32 cause, u32 transaction) {
  struct iommu_fault f;
  u32 count = 0;
  REQUIRE(iommu_wait_fault(&f, 1000), "no fault record came for %s", space->name);
  do {
    if (count++ == 0)
      print("fault: cause=%u (%s) did=0x%x (%s) iova=0x%lx ttyp=%u (%s)\n", f.cause, iommu_cause_name(f.cause),
            f.device_id, space->name, f.iotval, f.transaction, iommu_transaction_name(f.transaction));
    REQUIRE(f.device_id == space->device_id, "the fault names device 0x%x, not 0x%x", f.device_id, space->device_id);
    REQUIRE(f.cause == cause, "the fault has cause %u, not %u", f.cause, cause);
    REQUIRE(f.transaction == transaction, "the fault has transaction type %u, not %u", f.transaction, transaction);
    REQUIRE(f.iotval / PAGE_BYTES == iova / PAGE_BYTES, "the fault is at 0x%lx, not in the page 0x%lx", f.iotval, iova);
  } while (iommu_take_fault(&f));
}

static void expect_quiet(void) {
  struct iommu_fault f;
  REQUIRE(!iommu_take_fault(&f), "unexpected fault: cause %u, device 0x%x, IOVA 0x%lx", f.cause, f.device_id, f.iotval);
}

static u16 read_page(struct nvme *nvme, const struct dma_buffer *page) {
  u16 status = nvme_wait(nvme, 1, nvme_start(nvme, 1, NVME_READ, 0, page, 0, PAGE_BYTES, 1));
  nvme_drain(nvme, 1);
  return status;
}

static void other_domain(struct nic *a, struct nic *b, const struct dma_buffer *page) {
  u8 frame[64] = {0};
  memcpy(frame, b->mac, 6);
  memcpy(frame + 6, a->mac, 6);
  frame[12] = 0x88;
  frame[13] = 0xb5;
  step("let %s receive a frame into IOVA 0x%lx, which only %s's domain maps", b->name, page->iova, page->space->name);
  nic_receive_into(b, page->iova);
  nic_send(a, frame, sizeof frame);
  expect_fault(b->space, page->iova, WRITE_PAGE_FAULT, UNTRANSLATED_WRITE);
  REQUIRE(untouched(page), "%s wrote into a page of another domain", b->name);
  step("let %s send a frame from IOVA 0x%lx, which only %s's domain maps", a->name, page->iova, page->space->name);
  nic_send_from(a, page->iova, 64);
  expect_fault(a->space, page->iova, READ_PAGE_FAULT, UNTRANSLATED_READ);
  REQUIRE(untouched(page), "the page of another domain changed");
  print("isolation: the page at 0x%lx still holds its canary; neither NIC's domain has seen it\n", page->page[0]);
}

void faults_part(struct nvme *nvme, struct nic *a, struct nic *b) {
  struct dma_buffer page;
  dma_buffer_open(&page, nvme->space, 1);
  expect_quiet();
  REQUIRE(read_page(nvme, &page) == NVME_SUCCESS, "an NVMe read into a mapped page fails");
  fill(&page);

  step("unmap IOVA 0x%lx in %s's domain, IOTINVAL.VMA, let the device try it", page.iova, nvme->space->name);
  dma_unmap(nvme->space, page.iova);
  dma_invalidate(nvme->space, page.iova);
  u16 status = read_page(nvme, &page);
  expect_fault(nvme->space, page.iova, WRITE_PAGE_FAULT, UNTRANSLATED_WRITE);
  print("nvme: status=0x%x (data transfer error is 0x%x)\n", status, NVME_DATA_TRANSFER_ERROR);
  REQUIRE(untouched(&page), "the NVMe controller wrote into an unmapped page");
  // QEMU's controller model does not notice that its DMA was refused.
  bool blind = status == NVME_SUCCESS && strncmp(nvme->model, "QEMU", 4) == 0;
  REQUIRE(blind || status == NVME_DATA_TRANSFER_ERROR, "the NVMe read ended with status 0x%x", status);

  step("map IOVA 0x%lx again, the NVMe controller reads into it", page.iova);
  dma_map(nvme->space, page.iova, page.page[0]);
  dma_invalidate(nvme->space, page.iova);
  REQUIRE(read_page(nvme, &page) == NVME_SUCCESS, "an NVMe read into a page mapped again fails");
  REQUIRE(!untouched(&page), "the NVMe read into the page mapped again wrote nothing");
  expect_quiet();

  fill(&page);
  if (a != NULL && b != NULL) other_domain(a, b, &page);
}
