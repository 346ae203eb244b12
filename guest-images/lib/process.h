// The IOMMU's side of processes: process directories, page requests and their responses, device invalidations.
#pragma once
#include "base.h"
#include "pci.h"

/// pdtp.MODE: the width of the process directory (2.1.2).
#define PROCESS_DIRECTORY_8 1u
#define PROCESS_DIRECTORY_17 2u
#define PROCESS_DIRECTORY_20 3u

struct process_directory {
  u32 device_id, mode;
  u64 root;
  u32 table_pages;
};

#define TRANSLATE_ATS 2ul  // DC.tc.EN_ATS
#define TRANSLATE_PRI 4ul  // DC.tc.EN_PRI
/// DC.tc.PRPR: responses carry the PASID of the request.
#define TRANSLATE_PRPR 64ul
/// DC.tc.DPE: requests without a PASID are those of process 0.
#define TRANSLATE_DPE 512ul

/// True when the IOMMU has this mode.
bool process_mode_offered(u32 mode);
/// Points the device's context at an empty process directory; `control` is of TRANSLATE_….
void process_directory_open(struct process_directory *directory, const struct pci_function *f, u32 mode, u64 control);
/// Blocks the device and gives the directory's pages back.
void process_directory_close(struct process_directory *directory);
/// Lets `pasid` use the Sv39 table at `root`; IODIR.INVAL_PDT.
void process_bind(struct process_directory *directory, u32 pasid, u64 root, u32 pscid);
/// Where the process context of `pasid` lies.
u64 process_context_address(struct process_directory *directory, u32 pasid);
/// Takes it away; IODIR.INVAL_PDT and IOTINVAL.VMA of the address space.
void process_unbind(struct process_directory *directory, u32 pasid, u32 pscid);

/// ATS.INVAL of `1 << log2_bytes` (12 … 63) at `address`, and the fence; `pasid` is ignored unless `with_pasid`.
void process_invalidate_device(u32 device_id, bool with_pasid, u32 pasid, u64 address, u32 log2_bytes);
/// ATS.INVAL of everything a device has cached for a PASID, and the fence.
void process_invalidate_device_all(u32 device_id, bool with_pasid, u32 pasid);

struct page_request {
  u32 device_id, pasid, group;
  bool with_pasid, privileged, execute, read, write, last;
  u64 address;
};
#define RESPONSE_SUCCESS 0u
#define RESPONSE_INVALID 1u
#define RESPONSE_FAILURE 15u

/// Starts the page-request queue of 2^log2 records; `handler` gets each record, in the interrupt.
void page_requests_open(u32 log2_records, void (*handler)(const struct page_request *request));
/// Stops the queue; the IOMMU then answers by itself.
void page_requests_close(void);
/// ATS.PRGR for the group of this request.
void page_respond(const struct page_request *request, u32 code);
/// Interrupts of the queue, and how often it had overflowed.
u32 page_request_interrupts(void);
u32 page_request_overflows(void);
/// With the handler held, records stay in the queue.
void page_requests_hold(bool held);

/// Enables PASID, ATS and PRI in the function's capabilities, as far as it has them and `wanted` says.
#define ENABLE_PASID 1u
#define ENABLE_ATS 2u
#define ENABLE_PRI 4u
bool process_enable(const struct pci_function *f, u32 wanted);
