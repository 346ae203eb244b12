#include "parts.h"
#include "program.h"

static struct nvme_command identify(u32 cns, u32 namespace_id) {
  memset(dma_pointer(&data, 0), 0xee, PAGE_BYTES);
  return (struct nvme_command){
      .opcode = ADMIN_IDENTIFY, .namespace_id = namespace_id, .prp1 = data.iova, .word10 = cns};
}

void identify_part(void) {
  const u8 *bytes = dma_pointer(&data, 0);
  const u32 *words = (const u32 *)bytes;
  step("Identify: controller, namespace, active namespaces, namespace descriptors");
  expect("Identify controller", 0, identify(1, 0), SUCCESS);
  u32 namespaces = words[516 / 4], commands = words[520 / 4] & 0xffff;
  sgl_support = words[536 / 4];
  REQUIRE(bytes[512] >> 4 >= 6 && (bytes[512] & 15) <= 6, "no 64-byte submissions: SQES 0x%x", bytes[512]);
  REQUIRE(namespaces >= 1, "no namespace");
  print("controller: namespaces=%u oncs=0x%x sgls=0x%x vwc=0x%x aerl=%u acl=%u\n", namespaces, commands,
        sgl_support, bytes[525], bytes[259], bytes[258]);

  expect("Identify active namespaces", 0, identify(2, 0), SUCCESS);
  u32 active = 0;
  for (u32 i = 0; i < 1024 && words[i] != 0; i++, active++)
    REQUIRE(words[i] <= namespaces && (i == 0 || words[i] > words[i - 1]), "the list of namespaces is not in order");
  REQUIRE(active >= 1 && words[0] == 1, "namespace 1 is not active");
  expect("Identify namespaces above 1", 0, identify(2, 1), SUCCESS);
  REQUIRE(words[0] != 1, "the list of namespaces above 1 holds 1");
  for (u32 id = 1; id <= active; id++) {
    expect("Identify namespace", 0, identify(0, id), SUCCESS);
    print("namespace: id=%u blocks=%lu formats=%u\n", id, *(u64 *)bytes, bytes[25] + 1);
    REQUIRE(*(u64 *)bytes != 0 && *(u64 *)(bytes + 8) <= *(u64 *)bytes, "a namespace without blocks, or with too many");
    expect("Identify descriptors", 0, identify(3, id), SUCCESS);
    REQUIRE(bytes[0] >= 1 && bytes[0] <= 4 && bytes[1] >= 1, "the first descriptor has type %u", bytes[0]);
  }
  expect("Identify namespace 4000", 0, identify(0, 4000), INVALID_NAMESPACE);
  expect("Identify all namespaces at once", 0, identify(2, 0xffffffff), INVALID_NAMESPACE);
  expect("Identify CNS 0x7f", 0, identify(0x7f, 1), INVALID_FIELD);
}

static u32 get_feature(u32 id, u32 select, u16 status) {
  struct nvme_command c = {.opcode = ADMIN_GET_FEATURES, .prp1 = data.iova, .word10 = id | select << 8};
  c.namespace_id = id == 5 ? 1 : 0;
  return expect("Get Features", 0, c, status);
}

static u32 set_feature(u32 id, u32 value, u16 status) {
  struct nvme_command c = {.opcode = ADMIN_SET_FEATURES, .prp1 = data.iova, .word10 = id, .word11 = value};
  c.namespace_id = (id & 0xff) == 5 ? 1 : 0;
  return expect("Set Features", 0, c, status);
}

void features_part(void) {
  // Arbitration, power, temperature, error recovery, write cache, queues, coalescing, atomicity, events.
  static const u8 ids[] = {0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0a, 0x0b};
  step("Get and Set Features: current, default and saved values, capabilities");
  for (u32 i = 0; i < LENGTH(ids); i++) {
    if (is_qemu && ids[i] == 2) continue;
    get_feature(ids[i], 0, SUCCESS);
    get_feature(ids[i], 1, SUCCESS);
    if (!is_qemu) {
      u32 abilities = get_feature(ids[i], 3, SUCCESS);
      REQUIRE((abilities & 5) == 4, "feature 0x%x has the capabilities %u", ids[i], abilities);
    }
  }
  REQUIRE((get_feature(7, 0, SUCCESS) & 0xffff) + 1 >= nvme.io_queues, "fewer queues are granted than were created");

  u32 threshold = get_feature(4, 0, SUCCESS);
  set_feature(4, 340, SUCCESS);
  REQUIRE(get_feature(4, 0, SUCCESS) == 340, "the temperature threshold does not stay");
  REQUIRE(get_feature(4, 1, SUCCESS) == threshold, "the default temperature threshold changed");
  set_feature(4, threshold, SUCCESS);
  u32 cache = get_feature(6, 0, SUCCESS);
  set_feature(6, 0, SUCCESS);
  REQUIRE((get_feature(6, 0, SUCCESS) & 1) == 0, "the write cache stays on");
  set_feature(6, cache, SUCCESS);

  step("the timestamp counts on from what was set");
  u64 *stamp = (u64 *)dma_pointer(&data, 0), set = 0x123456789a;
  *stamp = set;
  set_feature(0x0e, 0, SUCCESS);
  *stamp = 0;
  get_feature(0x0e, 0, SUCCESS);
  u64 now = *stamp & 0xffffffffffff;
  REQUIRE(now >= set && now < set + 60000, "the timestamp is 0x%lx", now);

  set_feature(7, 0x00010001, SEQUENCE_ERROR);
  set_feature(0x7f, 0, INVALID_FIELD);
  get_feature(0x7f, 0, INVALID_FIELD);
  set_feature(1u << 31 | 0x08, 0, NOT_SAVEABLE);
  struct nvme_command wrong = {.opcode = ADMIN_SET_FEATURES, .namespace_id = 1, .word10 = 0x08};
  expect("Set Features of the controller on a namespace", 0, wrong, NOT_NAMESPACE_SPECIFIC);
}

static u16 log_page(u32 id, u64 offset, u32 bytes, u16 status) {
  memset(dma_pointer(&data, 0), 0, PAGE_BYTES);
  struct nvme_command c = {.opcode = ADMIN_GET_LOG, .namespace_id = 0xffffffff, .prp1 = data.iova};
  c.word10 = (bytes / 4 - 1) << 16 | id;
  c.word12 = (u32)offset;
  c.word13 = (u32)(offset >> 32);
  return (u16)expect("Get Log Page", 0, c, status);
}

void logs_part(void) {
  const u8 *bytes = dma_pointer(&data, 0);
  step("Get Log Page: errors, SMART, firmware, commands and their effects");
  log_page(2, 0, 512, SUCCESS);
  u32 kelvin = bytes[1] | (u32)bytes[2] << 8;
  REQUIRE(kelvin > 250 && kelvin < 400, "the controller is at %u K", kelvin);
  u64 cycles = *(u64 *)(bytes + 112);
  print("smart: kelvin=%u power_cycles=%lu reads=%lu writes=%lu\n", kelvin, cycles, *(u64 *)(bytes + 64),
        *(u64 *)(bytes + 80));
  log_page(3, 0, 512, SUCCESS);
  REQUIRE((bytes[0] & 7) == 1 && bytes[8] != 0, "no firmware in slot 1");
  log_page(5, 0, 4096, SUCCESS);
  const u32 *admin = (const u32 *)bytes, *io = admin + 256;
  REQUIRE((admin[ADMIN_IDENTIFY] & 1) && (admin[ADMIN_GET_LOG] & 1) && (io[NVME_READ] & 1), "a mandatory command is not supported");
  REQUIRE(io[NVME_WRITE] & 2, "Write does not change blocks");
  REQUIRE((admin[0x55] & 1) == 0, "opcode 0x55 is supported");
  log_page(5, 1024, 1024, SUCCESS);
  REQUIRE(((const u32 *)bytes)[NVME_READ] & 1, "an offset into the log page has no effect");
  log_page(1, 0, 64, SUCCESS);
  if (!is_qemu) {
    u64 before = *(u64 *)bytes;
    // The malformed commands of the parts before are in the log; one more makes the count grow by one.
    expect("Identify CNS 0x7e", 0, (struct nvme_command){.opcode = ADMIN_IDENTIFY, .prp1 = data.iova, .word10 = 0x7e}, INVALID_FIELD);
    log_page(1, 0, 64, SUCCESS);
    REQUIRE(*(u64 *)bytes == before + 1, "the error count went from %lu to %lu", before, *(u64 *)bytes);
    u16 status = *(u16 *)(bytes + 12);
    REQUIRE((status >> 1 & 0x7ff) == INVALID_FIELD, "the error log names the status 0x%x", status >> 1);
  }
  log_page(0x7f, 0, 64, is_qemu ? INVALID_FIELD : INVALID_LOG_PAGE);
  log_page(2, 4096, 64, INVALID_FIELD);
}

void format_part(void) {
  struct nvme_command get = identify(0, 1);
  expect("Identify namespace", 0, get, SUCCESS);
  const u8 *bytes = dma_pointer(&data, 0);
  u32 formats = bytes[25] + 1u, old = bytes[26] & 15, other = formats;
  for (u32 i = 0; i < formats; i++) {
    u32 format = ((const u32 *)(bytes + 128))[i];
    if ((format & 0xffff) == 0 && (format >> 16 & 0xff) == 12) other = i;
  }
  if (other == formats || other == old) {
    print("no other format of 4096-byte blocks: Format NVM is left out\n");
    return;
  }
  step("Format NVM: namespace 1 with 4096-byte blocks, and back");
  struct dma_buffer page;
  dma_buffer_open(&page, &space, 2);
  u32 before = nvme.block_bytes;
  struct nvme_command format = {.opcode = ADMIN_FORMAT, .namespace_id = 1, .word10 = other};
  expect("Format NVM", 0, format, SUCCESS);
  open_controller();
  REQUIRE(nvme.block_bytes == 4096, "the blocks have %u bytes after Format NVM", nvme.block_bytes);
  memset(dma_pointer(&page, 0), 0x5a, PAGE_BYTES);
  REQUIRE(nvme_wait(&nvme, 1, nvme_start(&nvme, 1, NVME_WRITE, 4096, &page, 0, 4096, 8)) == SUCCESS, "a write fails");
  REQUIRE(nvme_wait(&nvme, 1, nvme_start(&nvme, 1, NVME_READ, 4096, &page, 4096, 4096, 8)) == SUCCESS, "a read fails");
  REQUIRE(memcmp(dma_pointer(&page, 0), dma_pointer(&page, 4096), PAGE_BYTES) == 0, "a block of 4096 bytes differs");
  format.word10 = old;
  expect("Format NVM back", 0, format, SUCCESS);
  open_controller();
  REQUIRE(nvme.block_bytes == before, "the blocks have %u bytes again", nvme.block_bytes);
  format.word10 = 15;
  expect("Format NVM with a format that is not there", 0, format, INVALID_FORMAT);
  format.word10 = old, format.namespace_id = 4000;
  expect("Format NVM of a namespace that is not there", 0, format, INVALID_NAMESPACE);
  dma_buffer_close(&page);
}
