// Says what the device tree says, and passes.
#include "device-tree.h"
#include "program.h"
#include "sbi.h"

static void show_devices(void) {
  int depth = 0;
  for (dt_node node = dt_root(); node != DT_NONE; node = dt_next(node, &depth)) {
    u64 base, bytes;
    u32 length;
    const u8 *compatible = dt_property(node, "compatible", &length);
    dt_node parent = dt_parent(node);
    if (compatible == NULL || parent == DT_NONE || dt_u32(parent, "#size-cells", 1) == 0) continue;
    if (!dt_reg(node, 0, &base, &bytes)) continue;
    print("  %-24s 0x%09lx +0x%lx  %s\n", dt_name(node), base, bytes, (const char *)compatible);
  }
}

void program(void) {
  u64 version = sbi_version();
  print("hello from hart %lu\n", hart_id);
  print("SBI %lu.%lu:%s%s%s%s%s%s\n", version >> 24 & 0x7f, version & 0xffffff, sbi_has(SBI_TIME) ? " TIME" : "",
        sbi_has(SBI_IPI) ? " IPI" : "", sbi_has(SBI_RFENCE) ? " RFENCE" : "", sbi_has(SBI_HSM) ? " HSM" : "",
        sbi_has(SBI_SRST) ? " SRST" : "", sbi_has(SBI_DBCN) ? " DBCN" : "");
  step("read the device tree at 0x%lx, %lu bytes", dt_address(), dt_bytes());
  const char *model = (const char *)dt_property(dt_root(), "model", NULL);
  print("model %s, timebase %u Hz\n", model == NULL ? "(none)" : model,
        dt_u32(dt_at_path("/cpus"), "timebase-frequency", 0));

  u32 harts = 0;
  for (dt_node cpu = dt_compatible(DT_NONE, "riscv"); cpu != DT_NONE; cpu = dt_compatible(cpu, "riscv")) harts++;
  print("harts %u; hart %lu has sstc: %s, ssaia: %s\n", harts, hart_id, dt_hart_has(hart_id, "sstc") ? "yes" : "no",
        dt_hart_has(hart_id, "ssaia") ? "yes" : "no");

  u64 base, bytes;
  dt_node memory = dt_at_path("/memory");
  REQUIRE(memory != DT_NONE && dt_reg(memory, 0, &base, &bytes), "the device tree has no memory node");
  print("memory 0x%lx, %lu MiB\n", base, bytes >> 20);
  print("devices:\n");
  show_devices();
}
