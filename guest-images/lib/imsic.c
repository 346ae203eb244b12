#include "imsic.h"
#include "device-tree.h"
#include "program.h"
#include "trap.h"

// Indirect registers of an interrupt file (AIA 3.8); eie0 is followed by eie2, eie4, … on RV64.
#define EIDELIVERY 0x70
#define EITHRESHOLD 0x72
#define EIE0 0xc0
#define IDENTITIES 256

static u64 file;
static u32 identities, taken;
static volatile u64 claimed;
static struct {
  void (*handler)(void *);
  void *context;
} rows[IDENTITIES];

static void write_indirect(u32 index, u64 value) {
  csr_write(CSR_SISELECT, index);
  csr_write(CSR_SIREG, value);
}

static void on_external(void) {
  // Writing stopei claims the interrupt that it showed; 0 means that none is left.
  for (;;) {
    u32 identity = (u32)(csr_swap(CSR_STOPEI, 0) >> 16) & 0x7ff;
    if (identity == 0) return;
    claimed++;
    if (identity < IDENTITIES && rows[identity].handler != NULL) rows[identity].handler(rows[identity].context);
  }
}

// The position of the hart's S-level external interrupt (9) in interrupts-extended, or -1.
static i32 file_index(dt_node node, u64 hart) {
  u32 bytes, own = dt_u32(dt_hart_controller(hart), "phandle", 0);
  const u8 *parents = dt_property(node, "interrupts-extended", &bytes);
  for (u32 i = 0; parents != NULL && (i + 1) * 8 <= bytes; i++)
    if (dt_cell(parents, 2 * i) == own && dt_cell(parents, 2 * i + 1) == INTERRUPT_EXTERNAL) return (i32)i;
  return -1;
}

u64 imsic_address_of(u64 hart) {
  for (dt_node node = dt_compatible(DT_NONE, "riscv,imsics"); node != DT_NONE;
       node = dt_compatible(node, "riscv,imsics")) {
    i32 index = file_index(node, hart);
    u64 base;
    if (index < 0 || !dt_reg(node, 0, &base, NULL)) continue;
    identities = MIN(dt_u32(node, "riscv,num-ids", 0), IDENTITIES - 1u);
    // Each hart has one page here, followed by its guest interrupt files.
    return base + ((u64)index * PAGE_BYTES << dt_u32(node, "riscv,guest-index-bits", 0));
  }
  return 0;
}

static void enable(u32 identity) {
  csr_write(CSR_SISELECT, EIE0 + identity / 64 * 2);
  csr_set(CSR_SIREG, 1ul << identity % 64);
}

static void switch_on(void) {
  write_indirect(EITHRESHOLD, 0);
  write_indirect(EIDELIVERY, 1);
  trap_on(INTERRUPT_EXTERNAL, on_external);
}

bool imsic_open(void) {
  if (!dt_hart_has(hart_id, "ssaia")) return false;
  file = imsic_address_of(hart_id);
  if (file == 0) return false;
  switch_on();
  return true;
}

void imsic_open_here(u32 identity) {
  switch_on();
  enable(identity);
}

u64 imsic_address(void) { return file; }
u64 imsic_count(void) { return claimed; }

u32 imsic_take(void (*handler)(void *context), void *context) {
  REQUIRE(taken < identities, "no interrupt identity left of %u", identities);
  u32 identity = ++taken;
  rows[identity].handler = handler;
  rows[identity].context = context;
  enable(identity);
  return identity;
}
