#include "console.h"
#include "device-tree.h"
#include "sbi.h"

// ns16550a: transmit holding register, line status register and its "holding register empty" bit.
#define THR 0
#define LSR 5
#define LSR_THRE 0x20

static u64 uart;
static u32 shift;

void console_open(void) {
  dt_node node = dt_compatible(DT_NONE, "ns16550a");
  if (node == DT_NONE || !dt_reg(node, 0, &uart, NULL)) uart = 0;
  shift = dt_u32(node, "reg-shift", 0);
}

static void put(char c) {
  if (uart == 0) {
    sbi_console_put(c);
    return;
  }
  // Bounded: a UART that never drains must not stop the program.
  for (u32 i = 0; i < 100000 && (mmio_read8(uart + (LSR << shift)) & LSR_THRE) == 0; i++);
  mmio_write8(uart + (THR << shift), (u8)c);
}

static void put_text(const char *text, u64 length, u32 width, bool left) {
  for (u64 i = length; !left && i < width; i++) put(' ');
  for (u64 i = 0; i < length; i++) put(text[i]);
  for (u64 i = length; left && i < width; i++) put(' ');
}

static void put_number(u64 value, u32 base, bool negative, bool upper, u32 width, bool zero, bool left) {
  char digits[24];
  u32 at = sizeof digits;
  do {
    u32 digit = (u32)(value % base);
    digits[--at] = (char)(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10);
    value /= base;
  } while (value != 0);
  while (zero && sizeof digits - at < width && at > 1) digits[--at] = '0';
  if (negative) digits[--at] = '-';
  put_text(digits + at, sizeof digits - at, width, left);
}

void print_list(const char *format, __builtin_va_list arguments) {
  for (; *format != 0; format++) {
    if (*format != '%') {
      put(*format);
      continue;
    }
    bool left = false, zero = false, wide = false;
    u32 width = 0;
    for (format++; *format == '-' || *format == '0'; format++) *format == '-' ? (left = true) : (zero = true);
    for (; *format >= '0' && *format <= '9'; format++) width = width * 10 + (u32)(*format - '0');
    for (; *format == 'l'; format++) wide = true;
    if (*format == 's') {
      const char *text = __builtin_va_arg(arguments, const char *);
      put_text(text, strlen(text), width, left);
    } else if (*format == 'c') {
      put((char)__builtin_va_arg(arguments, int));
    } else if (*format == 'd') {
      i64 value = wide ? __builtin_va_arg(arguments, i64) : __builtin_va_arg(arguments, i32);
      put_number(value < 0 ? 0 - (u64)value : (u64)value, 10, value < 0, false, width, zero, left);
    } else if (*format == 'u' || *format == 'x' || *format == 'X') {
      u64 value = wide ? __builtin_va_arg(arguments, u64) : __builtin_va_arg(arguments, u32);
      put_number(value, *format == 'u' ? 10 : 16, false, *format == 'X', width, zero, left);
    } else if (*format == '%') {
      put('%');
    } else {
      return;
    }
  }
}

void print(const char *format, ...) {
  __builtin_va_list arguments;
  __builtin_va_start(arguments, format);
  print_list(format, arguments);
  __builtin_va_end(arguments);
}

void step(const char *format, ...) {
  print("step: ");
  __builtin_va_list arguments;
  __builtin_va_start(arguments, format);
  print_list(format, arguments);
  __builtin_va_end(arguments);
  print("\n");
}
