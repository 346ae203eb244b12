/** What a translated region is to its callers. */

/** Takes the virtual address of the page in which the region begins. */
export const regionType = { params: ['i64'], result: 'i32' } as const;
/** `state.pc` and `state.left` are set; any tier may go on. */
export const continues = 0;
/** The same, but the next instruction must be interpreted. */
export const interprets = 1;
