#include "pages.h"
#include "device-tree.h"
#include "prng.h"
#include "program.h"

#define TOGETHER_PAGES 4096u  // 16 MiB for runs
#define SINGLE_PAGES 8192u    // 32 MiB for single pages

extern u8 __image_end[];

static u64 together, together_end;
static u32 stack[SINGLE_PAGES];  // page numbers, shuffled
static u32 singles;

static bool overlaps_tree(u64 page) {
  return page < dt_address() + dt_bytes() && page + PAGE_BYTES > dt_address();
}

void pages_open(u64 seed) {
  u64 base, bytes;
  dt_node memory = dt_at_path("/memory");
  REQUIRE(memory != DT_NONE && dt_reg(memory, 0, &base, &bytes), "the device tree has no memory node");
  together = ALIGN_UP((u64)__image_end, PAGE_BYTES);
  REQUIRE(together >= base && together < base + bytes, "the program lies outside the memory of the device tree");
  // A quarter of a small memory, 16 MiB of a large one, for runs; the tree must not lie in them.
  u64 pages = (base + bytes - together) / PAGE_BYTES;
  together_end = together + MIN(pages / 4, TOGETHER_PAGES) * PAGE_BYTES;
  if (dt_address() >= together && dt_address() < together_end) together = ALIGN_UP(dt_address() + dt_bytes(), PAGE_BYTES);
  for (u64 page = together_end; page < base + bytes && singles < SINGLE_PAGES; page += PAGE_BYTES)
    if (!overlaps_tree(page)) stack[singles++] = (u32)(page / PAGE_BYTES);
  for (u32 i = singles - 1; i > 0; i--) {
    u32 j = (u32)(xorshift64(&seed) % (i + 1)), swap = stack[i];
    stack[i] = stack[j];
    stack[j] = swap;
  }
}

u64 page_take(void) {
  REQUIRE(singles > 0, "no memory page left; give the machine more memory");
  u64 page = (u64)stack[--singles] * PAGE_BYTES;
  memset((void *)page, 0, PAGE_BYTES);
  return page;
}

void page_give(u64 page) { stack[singles++] = (u32)(page / PAGE_BYTES); }

u32 pages_left(void) { return singles; }

u64 pages_take_together(u64 count) {
  REQUIRE(together + count * PAGE_BYTES <= together_end, "no run of %lu memory pages left; give the machine more memory",
          count);
  u64 run = together;
  together += count * PAGE_BYTES;
  memset((void *)run, 0, count * PAGE_BYTES);
  return run;
}
