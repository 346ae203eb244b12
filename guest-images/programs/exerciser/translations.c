#include "clock.h"
#include "iommu.h"
#include "pages.h"
#include "parts.h"
#include "program.h"

#define PASID 0x42u
#define IOVA 0x10000000ul
#define LAZY 0x20000000ul

static struct process_directory directory;
static struct dma_space space;
static struct dma_buffer buffer;

static void bind(u64 control) {
  process_directory_open(&directory, x.function, process_mode_offered(PROCESS_DIRECTORY_20) ? PROCESS_DIRECTORY_20 : PROCESS_DIRECTORY_8, control);
  dma_space_open_process(&space, "process", x.function, IOVA);
  dma_buffer_open(&buffer, &space, 4);
  process_bind(&directory, PASID, (u64)space.root, space.pscid);
}

static void unbind(void) {
  process_unbind(&directory, PASID, space.pscid);
  process_invalidate_device_all(directory.device_id, true, PASID);
  process_directory_close(&directory);
}

static struct exerciser_descriptor fill(u64 at, u32 bytes, u8 mode) {
  return (struct exerciser_descriptor){.opcode = OP_FILL, .destination = at, .length = bytes, .operand = at,
                                       .destination_mode = mode, .destination_pasid = PASID};
}

void translations_part(void) {
  step("enable ATS: translation requests, hits in the device's cache");
  bind(TRANSLATE_ATS);
  REQUIRE(process_enable(x.function, ENABLE_PASID | ENABLE_ATS), "the exerciser has no ATS");
  struct exerciser_completion c;
  c = expect("translate", (struct exerciser_descriptor){.opcode = OP_TRANSLATE, .source = buffer.iova, .source_mode = MODE_ATS | MODE_PASID, .source_pasid = PASID},
             DONE_SUCCESS);
  print("translation: iova=0x%lx translated=0x%lx rights=%u shift=%u\n", buffer.iova, c.translated, c.rights, c.range_shift);
  REQUIRE((c.rights & 3) == 3, "the translation gives the rights %u", c.rights);
  u32 hits = exerciser_register(&x, EXERCISER_ATC_HITS);
  for (u32 i = 0; i < 4; i++) expect("fill by ATS", fill(buffer.iova, 64, MODE_ATS | MODE_PASID), DONE_SUCCESS);
  REQUIRE(exerciser_register(&x, EXERCISER_ATC_HITS) >= hits + 4, "the translation cache was not hit");
  REQUIRE(*(u64 *)dma_pointer(&buffer, 0) == buffer.iova, "a fill by ATS did not arrive");

  step("take the page away: unmap, IOTINVAL.VMA, ATS.INVAL; the device must not find it any more");
  u32 invalidations = exerciser_register(&x, EXERCISER_INVALIDATIONS);
  dma_unmap(&space, buffer.iova);
  dma_invalidate(&space, buffer.iova);
  process_invalidate_device(directory.device_id, true, PASID, buffer.iova, 12);
  REQUIRE(exerciser_register(&x, EXERCISER_INVALIDATIONS) == invalidations + 1, "the invalidation did not reach the device");
  *(u64 *)buffer.page[0] = 1;
  expect("fill of the page taken away", fill(buffer.iova, 64, MODE_ATS | MODE_PASID), DONE_NO_PERMISSION);
  REQUIRE(*(u64 *)buffer.page[0] == 1, "the device wrote to the page that was taken away");
  expect("fill of the next page", fill(buffer.iova + PAGE_BYTES, 64, MODE_ATS | MODE_PASID), DONE_SUCCESS);
  dma_map(&space, buffer.iova, buffer.page[0]);
  dma_invalidate(&space, buffer.iova);
  expect("fill of the page mapped again", fill(buffer.iova, 64, MODE_ATS | MODE_PASID), DONE_SUCCESS);
  REQUIRE(*(u64 *)buffer.page[0] == buffer.iova, "a fill after mapping again did not arrive");
  unbind();

  step("forged translated addresses and ATS while the device context refuses them");
  bind(0);
  expect("a forged translated address",
         (struct exerciser_descriptor){.opcode = OP_FILL, .destination = 0x80000000, .length = 8, .destination_mode = MODE_TRANSLATED},
         DONE_UNSUPPORTED);
  expect_fault(0x80000000, 0);
  REQUIRE(exerciser_run(&x, fill(buffer.iova, 64, MODE_ATS | MODE_PASID)).status != DONE_SUCCESS, "ATS works although EN_ATS is off");
  struct iommu_fault f;
  delay_microseconds(100);
  while (iommu_take_fault(&f));
  unbind();
}

static volatile u32 requests, groups;
static u32 answer;
static struct page_request last_request;

// Maps every page asked for, and answers when the last request of its group has come.
static void on_request(const struct page_request *r) {
  requests++;
  last_request = *r;
  if (answer == RESPONSE_SUCCESS && (r->read || r->write)) {
    dma_map(&space, r->address, page_take());
  }
  if (!r->last || (!r->read && !r->write)) return;
  groups++;
  page_respond(r, answer);
}

void pages_part(void) {
  step("enable PRI: the device asks for pages that are not there");
  bind(TRANSLATE_ATS | TRANSLATE_PRI | TRANSLATE_PRPR);
  page_requests_open(6, on_request);
  REQUIRE(process_enable(x.function, ENABLE_PASID | ENABLE_ATS | ENABLE_PRI), "the exerciser has no PRI");
  struct exerciser_completion c;
  u64 slowest = 0, quickest = ~0ul;
  for (u32 i = 0; i < 16; i++) {
    c = expect("fill of a page that is not there", fill(LAZY + i * PAGE_BYTES, 64, MODE_ATS | MODE_PASID | MODE_PAGE_REQUEST), DONE_SUCCESS);
    REQUIRE(c.page_requests == 1, "%u page requests for one page", c.page_requests);
    slowest = c.latency_ns > slowest ? c.latency_ns : slowest;
    quickest = MIN(c.latency_ns, quickest);
  }
  REQUIRE(requests == 16 && groups == 16, "%u requests in %u groups came", requests, groups);
  REQUIRE(last_request.pasid == PASID && last_request.with_pasid && last_request.write, "the last request is of PASID 0x%x",
          last_request.pasid);
  print("pages: requests=%u groups=%u interrupts=%u quickest_ns=%lu slowest_ns=%lu\n", requests, groups,
        page_request_interrupts(), quickest, slowest);
  c = expect("fill of the same page again", fill(LAZY, 64, MODE_ATS | MODE_PASID | MODE_PAGE_REQUEST), DONE_SUCCESS);
  REQUIRE(c.page_requests == 0, "a page that is there was asked for");

  step("one group of eight pages, then a transaction over all of them");
  requests = groups = 0;
  c = expect("page request group",
             (struct exerciser_descriptor){.opcode = OP_PAGE_REQUEST, .source = LAZY + (1 << 20), .pages = 8, .group = 77,
                                           .page_flags = PAGE_READ | PAGE_WRITE | PAGE_LAST, .source_mode = MODE_PASID,
                                           .source_pasid = PASID},
             DONE_SUCCESS);
  REQUIRE(requests == 8 && groups == 1 && last_request.group == 77, "%u requests in %u groups, index %u", requests, groups,
          last_request.group);
  c = expect("fill of eight pages", fill(LAZY + (1 << 20), 8 * PAGE_BYTES, MODE_ATS | MODE_PASID), DONE_SUCCESS);

  step("eight transactions that each miss, at once");
  requests = groups = 0;
  for (u32 i = 0; i < 8; i++) {
    struct exerciser_descriptor d = fill(LAZY + (2 << 20) + i * 3 * PAGE_BYTES + 4000, 200, MODE_ATS | MODE_PASID | MODE_PAGE_REQUEST);
    d.tag = i;
    exerciser_submit(&x, &d);
  }
  for (u32 i = 0; i < 8; i++)
    REQUIRE(exerciser_take(&x, &c, 1000) && c.status == DONE_SUCCESS, "a transaction ends with %s", exerciser_status_name(c.status));
  REQUIRE(requests == 16, "%u requests for sixteen pages", requests);
  print("parallel: requests=%u groups=%u\n", requests, groups);

  step("a handler that answers Invalid Request");
  answer = RESPONSE_INVALID;
  expect("fill of a page that is refused", fill(LAZY + (3 << 20), 64, MODE_ATS | MODE_PASID | MODE_PAGE_REQUEST), DONE_PAGE_INVALID);
  answer = RESPONSE_SUCCESS;
  expect("fill after a refusal", fill(LAZY + (3 << 20), 64, MODE_ATS | MODE_PASID | MODE_PAGE_REQUEST), DONE_SUCCESS);

  step("a stop marker needs no answer");
  requests = groups = 0;
  expect("stop marker", (struct exerciser_descriptor){.opcode = OP_STOP_MARKER, .source_mode = MODE_PASID, .source_pasid = PASID}, DONE_SUCCESS);
  delay_microseconds(50);
  print("stop marker: requests=%u groups=%u\n", requests, groups);

  step("a queue of two records overflows: the IOMMU answers by itself, and the device asks again");
  page_requests_close();
  page_requests_open(1, on_request);
  page_requests_hold(true);
  for (u32 i = 0; i < 8; i++) {
    struct exerciser_descriptor d = fill(LAZY + (4 << 20) + i * PAGE_BYTES, 64, MODE_ATS | MODE_PASID | MODE_PAGE_REQUEST);
    d.tag = i;
    exerciser_submit(&x, &d);
  }
  delay_microseconds(20);
  page_requests_hold(false);
  u32 asked = 0;
  for (u32 i = 0; i < 8; i++) {
    REQUIRE(exerciser_take(&x, &c, 1000), "a transaction hangs behind the overflow");
    REQUIRE(c.status == DONE_SUCCESS || c.status == DONE_RETRIES, "a transaction ends with %s", exerciser_status_name(c.status));
    asked += c.page_requests;
  }
  print("overflow: overflows=%u asked=%u\n", page_request_overflows(), asked);

  step("a handler that answers Response Failure");
  answer = RESPONSE_FAILURE;
  // iommufd knows two answers only, so a vIOMMU on top of it makes an Invalid Request of a Response Failure.
  c = exerciser_run(&x, fill(LAZY + (5 << 20), 64, MODE_ATS | MODE_PASID | MODE_PAGE_REQUEST));
  REQUIRE(c.status == DONE_PAGE_FAILURE || c.status == DONE_PAGE_INVALID, "a fill that fails ends with %s", exerciser_status_name(c.status));
  print("failure: status=\"%s\"\n", exerciser_status_name(c.status));
  answer = RESPONSE_SUCCESS;
  REQUIRE(process_enable(x.function, ENABLE_PASID | ENABLE_ATS | ENABLE_PRI), "the exerciser has no PRI");
  expect("fill after a failure", fill(LAZY + (5 << 20), 64, MODE_ATS | MODE_PASID | MODE_PAGE_REQUEST), DONE_SUCCESS);
  REQUIRE(exerciser_register(&x, EXERCISER_OUTSTANDING) == 0, "page requests are left unanswered");
  page_requests_close();
  unbind();
}
