import { eventTable } from '#vmm/base/events';

/** Trace events of the kernel. */
export const kernelEvents = eventTable({
  'iommufd.ioctl': {
    doc: 'An iommufd or VFIO ioctl returned: its structure before, what the kernel changed in it, and the result.',
    fields: { name: 'text', in: 'text', out: 'text', result: 'text' },
  },
  'iommufd.read': {
    doc: 'User space read page requests or events.',
    fields: { fd: 'int', count: 'int', result: 'text' },
  },
  'iommufd.write': {
    doc: 'User space answered page requests.',
    fields: { fd: 'int', count: 'int', result: 'text' },
  },
});
