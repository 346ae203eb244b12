#include "device-tree.h"

// Tokens of the structure block (5.4.1).
#define FDT_BEGIN_NODE 1
#define FDT_END_NODE 2
#define FDT_PROP 3
#define FDT_NOP 4
#define FDT_END 9
#define FDT_MAGIC 0xd00dfeed
#define DEPTH_MAX 16

static const u8 *blob, *structure, *strings;
static u32 structure_bytes;

static u32 be32(const u8 *p) { return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3]; }

bool dt_open(u64 address) {
  if (address == 0 || (address & 3) != 0 || be32((const u8 *)address) != FDT_MAGIC) return false;
  blob = (const u8 *)address;
  structure = blob + be32(blob + 8);
  strings = blob + be32(blob + 12);
  structure_bytes = be32(blob + 36);
  return true;
}

u64 dt_address(void) { return (u64)blob; }
u64 dt_bytes(void) { return blob == NULL ? 0 : be32(blob + 4); }

// The offset after the token at `offset`.
static u32 after(u32 offset) {
  u32 token = be32(structure + offset);
  if (token == FDT_BEGIN_NODE) return (u32)ALIGN_UP(offset + 4 + strlen((const char *)structure + offset + 4) + 1, 4);
  if (token == FDT_PROP) return (u32)ALIGN_UP(offset + 12 + be32(structure + offset + 4), 4);
  return offset + 4;
}

dt_node dt_root(void) {
  u32 offset = 0;
  while (be32(structure + offset) == FDT_NOP) offset += 4;
  return offset;
}

dt_node dt_next(dt_node node, int *depth) {
  int ignored;
  if (depth == NULL) depth = &ignored;
  for (u32 offset = after(node); offset < structure_bytes; offset = after(offset)) {
    u32 token = be32(structure + offset);
    if (token == FDT_BEGIN_NODE) {
      ++*depth;
      return offset;
    }
    if (token == FDT_END_NODE) --*depth;
    if (token == FDT_END) break;
  }
  return DT_NONE;
}

dt_node dt_parent(dt_node node) {
  dt_node path[DEPTH_MAX];
  int depth = 0;
  for (dt_node n = dt_root(); n != DT_NONE; n = dt_next(n, &depth)) {
    if (depth < 0 || depth >= DEPTH_MAX) break;
    path[depth] = n;
    if (n == node) return depth == 0 ? DT_NONE : path[depth - 1];
  }
  return DT_NONE;
}

const char *dt_name(dt_node node) { return (const char *)structure + node + 4; }

const u8 *dt_property(dt_node node, const char *name, u32 *bytes) {
  if (node == DT_NONE) return NULL;
  for (u32 offset = after(node); offset < structure_bytes; offset = after(offset)) {
    u32 token = be32(structure + offset);
    if (token == FDT_NOP) continue;
    if (token != FDT_PROP) break;
    if (strcmp((const char *)strings + be32(structure + offset + 8), name) != 0) continue;
    if (bytes != NULL) *bytes = be32(structure + offset + 4);
    return structure + offset + 12;
  }
  return NULL;
}

// Whether the list of NUL-terminated strings holds `text`.
static bool lists(const u8 *list, u32 bytes, const char *text) {
  for (u32 at = 0; at < bytes; at += (u32)strlen((const char *)list + at) + 1)
    if (strcmp((const char *)list + at, text) == 0) return true;
  return false;
}

dt_node dt_compatible(dt_node after_node, const char *compatible) {
  if (blob == NULL) return DT_NONE;
  dt_node node = after_node == DT_NONE ? dt_root() : dt_next(after_node, NULL);
  for (; node != DT_NONE; node = dt_next(node, NULL)) {
    u32 bytes;
    const u8 *list = dt_property(node, "compatible", &bytes);
    const u8 *status = dt_property(node, "status", NULL);
    if (status != NULL && strcmp((const char *)status, "disabled") == 0) continue;
    if (list != NULL && lists(list, bytes, compatible)) return node;
  }
  return DT_NONE;
}

dt_node dt_at_path(const char *path) {
  dt_node node = dt_root();
  while (*path == '/') {
    path++;
    u64 length = 0;
    while (path[length] != 0 && path[length] != '/') length++;
    int depth = 0;
    dt_node child = dt_next(node, &depth);
    // A name without its unit address matches as well.
    for (; child != DT_NONE && depth > 0; child = dt_next(child, &depth)) {
      const char *name = dt_name(child);
      if (depth == 1 && strncmp(name, path, length) == 0 && (name[length] == 0 || name[length] == '@')) break;
    }
    if (child == DT_NONE || depth <= 0) return DT_NONE;
    node = child;
    path += length;
  }
  return node;
}

u32 dt_cell(const u8 *property, u32 index) { return be32(property + index * 4); }

u32 dt_u32(dt_node node, const char *name, u32 otherwise) {
  u32 bytes;
  const u8 *property = dt_property(node, name, &bytes);
  return property == NULL || bytes < 4 ? otherwise : be32(property);
}

static u64 cells(const u8 *property, u32 count) {
  u64 value = 0;
  for (u32 i = 0; i < count; i++) value = value << 32 | dt_cell(property, i);
  return value;
}

bool dt_reg(dt_node node, u32 index, u64 *base, u64 *bytes) {
  dt_node parent = dt_parent(node);
  u32 address_cells = dt_u32(parent, "#address-cells", 2), size_cells = dt_u32(parent, "#size-cells", 1);
  u32 property_bytes, entry = 4 * (address_cells + size_cells);
  const u8 *reg = dt_property(node, "reg", &property_bytes);
  if (reg == NULL || (index + 1) * entry > property_bytes) return false;
  *base = cells(reg + index * entry, address_cells);
  if (bytes != NULL) *bytes = cells(reg + index * entry + 4 * address_cells, size_cells);
  return true;
}

static dt_node hart_node(u64 hart) {
  for (dt_node node = dt_compatible(DT_NONE, "riscv"); node != DT_NONE; node = dt_compatible(node, "riscv"))
    if (dt_u32(node, "reg", 0xffffffff) == hart) return node;
  return DT_NONE;
}

bool dt_hart_has(u64 hart, const char *extension) {
  dt_node node = hart_node(hart);
  u32 bytes;
  const u8 *list = dt_property(node, "riscv,isa-extensions", &bytes);
  if (list != NULL) return lists(list, bytes, extension);
  const char *isa = (const char *)dt_property(node, "riscv,isa", NULL);
  u64 length = strlen(extension);
  for (; isa != NULL && *isa != 0; isa++)
    if (isa[0] == '_' && strncmp(isa + 1, extension, length) == 0 && (isa[1 + length] == '_' || isa[1 + length] == 0))
      return true;
  return false;
}

dt_node dt_hart_controller(u64 hart) {
  dt_node cpu = hart_node(hart);
  if (cpu == DT_NONE) return DT_NONE;
  int depth = 0;
  for (dt_node node = dt_next(cpu, &depth); node != DT_NONE && depth > 0; node = dt_next(node, &depth))
    if (dt_property(node, "interrupt-controller", NULL) != NULL) return node;
  return DT_NONE;
}
