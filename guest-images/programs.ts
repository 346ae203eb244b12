/** One bundled guest program: a folder of that name in `programs/`. */
export interface GuestProgram {
  readonly name: string;
  readonly title: string;
  /** One sentence: what a run that ends with "passed" (or the expected ending) has proved. */
  readonly proves: string;
}

/** The bundled programs, in the order in which they are listed. */
export const programs = [
  {
    name: 'hello',
    title: 'Device tree facts on the console',
    proves: 'The machine boots a guest in S-mode and hands it a device tree that names its devices.',
  },
  {
    name: 'dma',
    title: 'NVMe and two NICs behind the IOMMU',
    proves:
      'A guest that knows only its device tree does DMA through its own IOMMU page tables, and a page taken away faults.',
  },
  {
    name: 'irq',
    title: 'Timer, IPI and MSI',
    proves:
      'The timer (stimecmp and SBI), an IPI to oneself and MSIs written to the IMSIC arrive, in the order of priority.',
  },
  {
    name: 'smp',
    title: 'All harts at once',
    proves: 'Every hart starts by SBI HSM, shares memory by atomics, takes IPIs and MSIs, and stops; one hart will do.',
  },
  {
    name: 'crash',
    title: 'A trap that nothing handles',
    proves: 'A guest that crashes ends the run with its trap and registers shown.',
  },
  {
    name: 'hang',
    title: 'A loop that never ends',
    proves: 'A guest that hangs is ended by a time or instruction limit.',
  },
  {
    name: 'reset',
    title: 'A request for a reset',
    proves: 'A guest that asks for a reset ends the run with an exit code of its own.',
  },
  {
    name: 'fail',
    title: 'A failure with code 3',
    proves: "A guest's own failure code reaches the user.",
  },
  {
    name: 'hostile',
    title: 'Nonsense in every register, queue and table',
    proves:
      'Garbage from the guest ends in the errors of the specifications, and the machine works properly afterwards.',
  },
  {
    name: 'nvme',
    title: 'Everything an NVMe controller can do',
    proves:
      'Queues, PRP lists, SGLs, features, logs, events, Abort, Format and resets work with the right data, and malformed commands end in their statuses.',
  },
  {
    name: 'nic',
    title: 'Everything a network card can do',
    proves:
      'Checksums, segmentation, VLANs, filters, receive side scaling, both rings of each kind and resets work, byte for byte.',
  },
  {
    name: 'exerciser',
    title: 'DMA with PASIDs, translation requests and page requests',
    proves:
      'Process directories keep processes apart, translation caches obey invalidations, and a page request ends in a page and a retry.',
  },
  {
    name: 'sva-vsva',
    title: 'Devices on the pointers of two processes',
    proves:
      'Two processes read a file and send it through an NVMe queue and a NIC ring of their own, with pointers of their heaps; a third that tries another process’s pointer is stopped.',
  },
  {
    name: 'sva-vpri',
    title: 'Page faults of a device, mended by the guest',
    proves:
      'Processes in U-mode give the exerciser plain pointers to memory that is not there; every page request is answered, under memory pressure, overflow and a kill, and nothing leaks.',
  },
  {
    name: 'sva-isolation',
    title: 'Every way out is tried, and none is found',
    proves:
      'Forged PASIDs and translated addresses, tables and contexts that lie, tables edited during a walk and unmapped messages all end in their named faults.',
  },
  {
    name: 'hotplug',
    title: 'Cards that come and go',
    proves:
      'Each card that is plugged in is found by its interrupt, given power and used through the IOMMU, let go when it is asked for, and missed without harm when it is torn out.',
  },
  {
    name: 'bench-int',
    title: 'Benchmark: integer instructions',
    proves: 'How fast the hart runs an integer mix; the checksum shows that it runs it right.',
  },
  {
    name: 'bench-cpu',
    title: 'Benchmark: what a hart does all day',
    proves:
      'How fast the hart runs ten kernels, from integer code and copies to traps, translation misses and code that is always new.',
  },
  {
    name: 'bench-nvme',
    title: 'Benchmark: NVMe reads',
    proves: "How fast NVMe reads are through the IOMMU's page tables and past them.",
  },
  {
    name: 'bench-vpri',
    title: 'Benchmark: page requests',
    proves: 'How fast a device gets pages that are not there, by page requests that the guest answers.',
  },
] as const satisfies readonly GuestProgram[];
