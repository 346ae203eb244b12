#include "program.h"
#include "device-tree.h"
#include "sbi.h"
#include "trap.h"

// The values that sifive,test1 knows: the low half says what, the high half is the code.
#define FINISHER_PASS 0x5555
#define FINISHER_FAIL 0x3333
#define FINISHER_RESET 0x7777

u64 hart_id;

__attribute__((noreturn)) static void finish(u32 value) {
  u64 finisher;
  dt_node node = dt_compatible(DT_NONE, "sifive,test1");
  if (node != DT_NONE && dt_reg(node, 0, &finisher, NULL)) mmio_write32(finisher, value);
  // No finisher: shutdown or cold reboot; reason 1 is "system failure".
  sbi_reset((value & 0xffff) == FINISHER_RESET ? 1 : 0, (value & 0xffff) == FINISHER_FAIL ? 1 : 0);
  csr_write(CSR_SIE, 0);
  for (;;) wait_for_interrupt();
}

void pass(void) {
  print("passed\n");
  finish(FINISHER_PASS);
}

void fail(u32 code, const char *format, ...) {
  __builtin_va_list arguments;
  print("failed: ");
  __builtin_va_start(arguments, format);
  print_list(format, arguments);
  __builtin_va_end(arguments);
  print("\n");
  finish(code << 16 | FINISHER_FAIL);
}

void reset_machine(void) { finish(FINISHER_RESET); }

u64 argument(const char *name, u64 otherwise) {
  const char *text = (const char *)dt_property(dt_at_path("/chosen"), "bootargs", NULL);
  u64 length = strlen(name);
  while (text != NULL && *text != 0) {
    while (*text == ' ') text++;
    if (strncmp(text, name, length) == 0 && text[length] == '=') {
      text += length + 1;
      u64 value = 0, base = 10;
      if (text[0] == '0' && (text[1] | 32) == 'x') base = 16, text += 2;
      for (;; text++) {
        u64 digit = *text >= '0' && *text <= '9' ? (u64)(*text - '0') : (u64)((*text | 32) - 'a' + 10);
        if (digit >= base) break;
        value = value * base + digit;
      }
      return *text == 'K' ? value << 10 : *text == 'M' ? value << 20 : value;
    }
    while (*text != 0 && *text != ' ') text++;
  }
  return otherwise;
}

/// Called by _start.
void guest_start(u64 hart, u64 device_tree) {
  hart_id = hart;
  bool found = dt_open(device_tree);
  if (found) console_open();
  if (!found) fail(1, "a1 holds no device tree");
  program();
  pass();
}
